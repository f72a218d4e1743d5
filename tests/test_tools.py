"""Every tool as its user starts it: a process of its own, in another folder."""

import json
import os
import re
import shlex
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from fvnet_mm import cli

ROOT = Path(__file__).parents[1]

Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("tool", ["train", "test"])
def test_help_has_mmdets_flags_and_imports_nothing_heavy(
    tool: str, start_tool: Start, heavy_imports: Callable[[str], set[str]]
) -> None:
    done = start_tool(tool, "--help")
    assert done.returncode == 0
    flags = {"--work-dir", "--cfg-options", "--launcher", "--seed", "--demo", "--data", "--backbone"}
    flags |= {"--resume", "--amp", "--auto-scale-lr"} if tool == "train" else set()
    assert flags <= set(re.findall(r"--[a-z-]+", done.stdout))
    assert heavy_imports(tool) == set()


def test_mistake_ends_in_one_sentence(start_tool: Start, tmp_path: Path) -> None:
    done = start_tool("train", ROOT / "configs" / "retinanet_fvnet_s_coco.py")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: there is no data in data/coco")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_is_gone_ends_a_tool_quietly_and_no_other_pipe_does() -> None:
    tool = "import argparse; from fvnet_mm.cli import run_tool; run_tool({}, argparse.ArgumentParser())"
    prints = "lambda arguments: [print('x' * 100_000) for _ in range(9)]"
    with subprocess.Popen(
        [sys.executable, "-c", tool.format(prints)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        child.stdout.read(1)
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 1
    other = "lambda arguments: (_ for _ in ()).throw(BrokenPipeError('of a worker'))"
    done = subprocess.run([sys.executable, "-c", tool.format(other)], capture_output=True, text=True, check=False)
    assert "BrokenPipeError: of a worker" in done.stderr


def test_demo_learns_and_its_next_command_works(start_tool: Start, tmp_path: Path) -> None:
    """The demo to its end, as a stranger runs it from another folder: on all cores, whose number its roundings depend
    on. Its trunk is the least FVNet, and its head as wide as that, not to spend ten minutes.

    Threads that wait sleep: beside other tests those that spin hold each other up.
    """
    env = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"} | {"OMP_WAIT_POLICY": "PASSIVE"}
    config = ROOT / "configs" / "retinanet_fvnet_t_coco.py"
    widths = ("neck.out_channels", "bbox_head.in_channels", "bbox_head.feat_channels")
    narrow = [f"model.{width}=64" for width in widths]
    done = start_tool("train", config, "--demo", "--work-dir", "demo", "--cfg-options", *narrow, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    for text in ("FVNet 3.", "from scratch", "as tuned", "untrained       AP 0.0"):
        assert text in done.stdout
    assert "warm-up takes" not in done.stdout
    assert {file.name for file in (tmp_path / "demo" / "vis").iterdir()} == {"predictions.png", "curves.png"}
    annotations = json.loads((tmp_path / "demo/demo_data/annotations/instances_val2017.json").read_text())
    assert len(annotations["categories"]) == 80
    trained = re.search(r"after 4 epochs +(AP .*)", done.stdout)[1]
    assert float(re.search(r"AP50 ([\d.]+)", trained)[1]) > 5

    command = re.search(r"next +(.*)", done.stdout)[1]
    again = subprocess.run(shlex.split(command), cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr[-2000:]
    assert f"metrics         {trained}" in again.stdout


def test_the_next_command_tests_on_what_was_evaluated() -> None:
    given = ["val_dataloader.dataset.indices=4", "val_evaluator.ignore_index=3", "train_cfg.max_epochs=1"]
    arguments = Namespace(
        config="c.py",
        demo=True,
        skip_bad_images=False,
        data=None,
        backbone=None,
        work_dir=None,
        cfg_options=[*given, "test_evaluator.ignore_index=5"],
    )
    assert cli.test_command(arguments, None) == "nothing to test: the run has left no checkpoint"
    words = shlex.split(cli.test_command(arguments, Path("epoch_1.pth")))
    assert words[words.index("--cfg-options") + 1 :] == [
        "test_evaluator.ignore_index=5",
        "test_dataloader.dataset.indices=4",
    ]
