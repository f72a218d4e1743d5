"""Trainings that mmdet's script and tools/train.py start with one config, timed as their users see them.

Part of docs/speedups.py, which has the command line and keeps the results.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from coco_scene import TRAINING_IMAGES, write_coco_sized
from interleaving import interleaved

from fvnet_mm.cli import tool_parser
from fvnet_mm.engine.batch import plan_batch
from fvnet_mm.engine.config import load_config
from fvnet_mm.engine.data_source import select_data
from fvnet_mm.engine.weights import remove_pretrained

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "retinanet_fvnet_s_coco.py"


def configs(folder: Path, data: Path | None, options: dict[str, object]) -> tuple[Path, Path]:
    """Writes one config twice, for mmdet's script and for the suite's: the demo's, or that of a folder.

    Args:
        folder: To write into.
        data: A folder in COCO's layout; None for the demo.
        options: Of both.

    On a folder the stock one has nothing of the suite but the trunk; on the demo it keeps the hook that makes data and
    random states those of the suite.
    """
    words = [str(CONFIG), "--work-dir", str(folder / "suite"), "--seed", "0"]
    arguments = tool_parser("").parse_args(words + (["--demo"] if data is None else ["--data", str(data)]))
    cfg = load_config(arguments)
    select_data(cfg, arguments)
    remove_pretrained(cfg.model)
    cfg.merge_from_dict(options)
    plan_batch(cfg, 10**6, 1, False)
    cfg.dump(folder / "suite.py")
    cfg.runner_type, cfg.work_dir = "Runner", str(folder / "stock")
    if data is not None:
        cfg.custom_imports.imports = ["fvnet_mm.backbones"]
        cfg.custom_hooks = []
        cfg.default_hooks.checkpoint = dict(type="CheckpointHook", interval=1)
        cfg.train_cfg.type = "EpochBasedTrainLoop"
        del cfg.train_dataloader.worker_init_fn
    cfg.dump(folder / "stock.py")
    return folder / "stock.py", folder / "suite.py"


def processor_seconds(process: int) -> float:
    """Of a process and its living descendants, as Linux counts them."""
    fields = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended since
            words = file.read_text().rpartition(")")[2].split()
            fields[int(file.parent.name)] = (int(words[1]), sum(map(int, words[11:15])))
    family = {process}
    while more := {number for number, (parent, _) in fields.items() if parent in family} - family:
        family |= more
    return sum(fields[number][1] for number in family & fields.keys()) / os.sysconf("SC_CLK_TCK")


def until_logged(command: Sequence[str | Path], work_dir: Path, lines: int) -> tuple[list[float], list[dict]]:
    """Starts a training anew; processor seconds up to each of its first log lines, and the lines. Ends it then."""
    shutil.rmtree(work_dir, ignore_errors=True)
    seconds: list[float] = []
    with tempfile.TemporaryFile() as output:
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        process = subprocess.Popen([sys.executable, *command], stdout=output, stderr=output, env=environment, cwd=ROOT)
        try:
            while True:
                files = work_dir.glob("*/vis_data/scalars.json")
                found = [line for file in files for line in file.read_text().splitlines() if '"loss"' in line]
                seconds += [processor_seconds(process.pid)] * (len(found) - len(seconds))
                if len(found) >= lines:
                    return seconds[:lines], [json.loads(line) for line in found[:lines]]
                if process.poll() is not None:
                    output.seek(0)
                    raise RuntimeError(output.read().decode()[-2000:])
                time.sleep(0.05)
        finally:
            process.terminate()
            process.wait()


def commands(folder: Path, stock: Path, suite: Path) -> dict[str, tuple[list, Path]]:
    """Of each of the two: the command without the interpreter, and its work dir."""
    work = folder / "suite_run"
    return {
        "stock": (["-W", "ignore", ROOT / "docs/stock_train.py", stock], folder / "stock"),
        "suite": ([ROOT / "tools/train.py", suite, "--work-dir", work], work),
    }


def measure_startup(rounds: int, images: int) -> dict[str, dict]:
    """Processor seconds from the command to the first logged iteration, on a set of so many images."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_coco_sized(folder / "data", images)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # so that the first time is the first
        options = {
            "default_hooks.logger.interval": 1,
            "train_dataloader.num_workers": 1,
            "train_dataloader.dataset.pipeline.2.scale": (64, 64),
        }
        started = commands(folder, *configs(folder, folder / "data", options))
        (folder / "cache").rename(folder / "left")
        run = {kind: lambda start=start: until_logged(*start, 1)[0][0] for kind, start in started.items()}
        cold = interleaved(run, 1)
        warm = interleaved(run, rounds)
    name = "startup" if images == TRAINING_IMAGES else "startup_small"
    return {f"{name}_cold": dict(times=cold, images=images), name: dict(times=warm, images=images)}


def measure_training(rounds: int) -> dict[str, dict]:
    """On the CPU: processor seconds of an iteration, of the second and third eight of the demo."""
    import torch

    curves: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = {"default_hooks.logger.interval": 8, "train_dataloader.num_workers": 1}

        def iteration(kind: str, command: list, work_dir: Path) -> float:
            seconds, lines = until_logged(command, work_dir, 3)
            curves[kind] = [line["loss"] for line in lines]
            return (seconds[-1] - seconds[0]) / (lines[-1]["iter"] - lines[0]["iter"])

        started = commands(folder, *configs(folder, None, options))
        run = {kind: lambda k=kind, start=start: iteration(k, *start) for kind, start in started.items()}
        times = interleaved(run, rounds)
    return {"training": dict(times=times, losses=curves, threads=torch.get_num_threads())}
