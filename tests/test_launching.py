"""The launching scripts, with torchrun, srun and scontrol that write down how they were called."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"
SCRIPTS = sorted(path.name for path in TOOLS.glob("*.sh"))

RECORDER = """#!/bin/bash
printf '%s\\n' "$(basename "$0")" "$@" >>"$CALLS"
echo "port ${MASTER_PORT:-none}" >>"$CALLS"
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Starts a script of tools/ with fakes first on PATH; what they were called with is in the file ``calls``."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("torchrun", "srun", "scontrol"):
        (programs / name).write_text(RECORDER)
        (programs / name).chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "MASTER_", "CUDA_"))}

    def run(script: str, *words: object, **variables: object) -> subprocess.CompletedProcess[str]:
        environment = kept | {"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}
        return subprocess.run(
            [TOOLS / script, *map(str, words)],
            env=environment | {key: str(value) for key, value in variables.items()},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def test_one_node_lets_the_rendezvous_find_a_port(start: Callable[..., object], tmp_path: Path) -> None:
    done = start("dist_train.sh", "a config.py", 2, "--work-dir", "with space", "--cfg-options", "a='x y'")
    assert done.returncode == 0, done.stderr
    assert calls(tmp_path)[:-1] == [
        "torchrun",
        "--rdzv-backend=c10d",
        "--nnodes=1",
        "--nproc-per-node=2",
        "--rdzv-endpoint=localhost:0",
        str(TOOLS / "train.py"),
        "a config.py",
        "--launcher",
        "pytorch",
        "--work-dir",
        "with space",
        "--cfg-options",
        "a='x y'",
    ]


def test_several_nodes_as_mmdet_has_them(start: Callable[..., object], tmp_path: Path) -> None:
    nodes = dict(NNODES=2, NODE_RANK=1, MASTER_ADDR="first.node", PORT=1234)
    assert start("dist_test.sh", "config.py", "epoch_1.pth", 4, **nodes).returncode == 0
    assert calls(tmp_path)[2:9] == [
        "--nnodes=2",
        "--nproc-per-node=4",
        "--rdzv-endpoint=first.node:1234",
        "--rdzv-id=1234",
        "--rdzv-conf=is_host=0",
        str(TOOLS / "test.py"),
        "config.py",
    ]


@pytest.mark.parametrize(
    ("script", "words", "variables", "says"),
    [
        ("dist_train.sh", ["config.py"], {}, "usage: .*dist_train.sh CONFIG GPUS"),
        ("dist_train.sh", ["config.py", "two"], {}, "whole number of at least 1, not 'two'"),
        ("dist_train.sh", ["config.py", 4], {"CUDA_VISIBLE_DEVICES": "0,1"}, "4 processes need as many GPUs .* are 2"),
        ("dist_train.sh", ["config.py", 1], {"NNODES": 2}, "NNODES=2 needs MASTER_ADDR"),
        (
            "dist_train.sh",
            ["config.py", 1],
            {"NNODES": 2, "MASTER_ADDR": "a", "NODE_RANK": 2},
            "0 on the first .* to 1",
        ),
        ("dist_test.sh", ["config.py", 2], {}, "usage: .*CONFIG CHECKPOINT GPUS"),
        ("slurm_train.sh", ["gpu", "job", "config.py"], {}, "usage: .*PARTITION JOB CONFIG WORK_DIR"),
        ("slurm_test.sh", ["gpu", "job", "config.py", "x.pth"], {"GPUS": "all"}, "GPUS must be a whole number"),
    ],
)
def test_mistakes_end_in_one_sentence(
    script: str, words: list[object], variables: dict[str, object], says: str, start: Callable, tmp_path: Path
) -> None:
    done = start(script, *words, **variables)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert re.search(f"error: .*{says}", done.stderr), done.stderr
    assert not (tmp_path / "calls").exists()


def test_processes_on_a_cpu_are_not_counted(start: Callable[..., object]) -> None:
    assert start("dist_train.sh", "config.py", 64, CUDA_VISIBLE_DEVICES="").returncode == 0


def test_a_slurm_step_outside_a_job(start: Callable[..., object], tmp_path: Path) -> None:
    done = start("slurm_train.sh", "gpu", "my job", "c.py", "work", "--amp", GPUS=4, SRUN_ARGS="--mem 8G --qos=low")
    assert done.returncode == 0, done.stderr
    words = calls(tmp_path)
    assert words[:-1] == [
        *("srun", "--ntasks=4", "--cpus-per-task=5", "--kill-on-bad-exit=1", "--gres=gpu:4", "--ntasks-per-node=4"),
        *("--partition=gpu", "--job-name=my job", "--mem", "8G", "--qos=low", "python", "-u"),
        *(str(TOOLS / "train.py"), "c.py", "--work-dir", "work", "--launcher", "slurm", "--amp"),
    ]


def test_an_array_trains_a_seed_a_task(start: Callable[..., object], tmp_path: Path) -> None:
    job = dict(SLURM_JOB_ID=41, SLURM_ARRAY_JOB_ID=40, SLURM_ARRAY_TASK_ID=3, GPUS=2, GPUS_PER_NODE=0)
    assert start("slurm_train.sh", "cpu", "job", "c.py", "work", **job).returncode == 0
    words = calls(tmp_path)
    assert words[words.index("--work-dir") + 1] == "work/seed_3"
    assert words[words.index("--seed") + 1] == "3"
    assert not any(word.startswith(("--gres", "--partition")) for word in words)
    assert words[-1] == "port 20041"


def test_a_batch_script_that_slurm_has_copied(start: Callable[..., object], tmp_path: Path) -> None:
    spooled = shutil.copy(TOOLS / "slurm_train.sh", tmp_path / "slurm_script")
    job = dict(SLURM_JOB_ID=41, SLURM_SUBMIT_DIR=TOOLS.parent)
    assert start(spooled, "gpu", "job", "c.py", "work", **job).returncode == 0
    assert str(TOOLS / "train.py") in calls(tmp_path)


@pytest.mark.parametrize(("status", "requeues"), [(138, True), (143, False), (0, False), (2, False)])
def test_what_goes_back_into_the_queue(
    status: int, requeues: bool, start: Callable[..., object], tmp_path: Path
) -> None:
    (tmp_path / "bin" / "srun").write_text(f"#!/bin/bash\nexit {status}\n")
    done = start("slurm_train.sh", "gpu", "job", "c.py", "work", SLURM_JOB_ID=41)
    assert done.returncode == status
    assert (tmp_path / "calls").exists() == requeues
    if requeues:
        assert calls(tmp_path)[:3] == ["scontrol", "requeue", "41"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGUSR1, 138), (signal.SIGTERM, 143)])
def test_signals_reach_the_step(number: int, status: int, start: Callable[..., object], tmp_path: Path) -> None:
    """The shell waits for the checkpoint, and takes the step's status, not the signal's."""
    (tmp_path / "bin" / "srun").write_text(
        "#!/bin/bash\ntrap 'sleep 0.5; touch saved; exit 138' USR1\ntrap 'sleep 0.5; touch saved; exit 143' TERM\n"
        "touch ready\nwhile true; do sleep 0.05; done\n"
    )
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}
    with subprocess.Popen(
        [TOOLS / "slurm_train.sh", "gpu", "job", "c.py", "work"], env=environment | {"SLURM_JOB_ID": "7"}, cwd=tmp_path
    ) as shell:
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        shell.send_signal(number)
        assert shell.wait() == status
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "calls").exists() == (number == signal.SIGUSR1)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck")
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_clean(script: str) -> None:
    done = subprocess.run(
        ["shellcheck", "-x", f"tools/{script}"], cwd=TOOLS.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


DIES_ONCE = """
import json
import os
import signal
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class DiesOnce(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.rank == 1 and runner.iter == 3:
            try:
                Path(runner.work_dir, "died").touch(exist_ok=False)
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_dies_is_started_again(tiny_coco: Path, tmp_path: Path) -> None:
    """The real torchrun, with two processes on the CPU, of which one is killed in the second epoch."""
    (tmp_path / "dies_once.py").write_text(DIES_ONCE)
    base = TOOLS.parent / "tests" / "drills" / "tiny_retinanet.py"
    (tmp_path / base.name).write_text(
        f"_base_ = ['{base}']\ncustom_imports = dict(imports=[*_base_.custom_imports.imports, 'dies_once'])\n"
        "custom_hooks = [*_base_.custom_hooks, dict(type='DiesOnce')]\n"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": path}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "PET_MAX_RESTARTS": "1"}
    done = subprocess.run(
        [TOOLS / "dist_train.sh", tmp_path / base.name, "2", "--data", tiny_coco, "--work-dir", tmp_path / "work"],
        env=os.environ | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "work" / "died").exists()
    assert "exitcode: -9" in done.stderr
    assert "local_rank: 1" in done.stderr
    assert f"resumed from {tmp_path / 'work' / 'epoch_1.pth'}" in done.stdout
    record = json.loads((tmp_path / "work" / "run.json").read_text())
    assert record["status"] == "finished"
    assert [evaluation["step"] for evaluation in record["evaluations"]] == [1, 2, 3]
    environment = record["environment"]
    assert (environment["world_size"], environment["images_per_device"], environment["accumulation"]) == (2, 2, 1)
