"""tools/suite.py as its user starts it: a process of its own, in another folder, with real trainings on tiny data."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def start(start_tool: Start) -> Start:
    """Starts the tool in an empty folder."""
    return partial(start_tool, "suite")


def test_help_of_every_command_imports_nothing_heavy(start: Start, heavy_imports: Callable[[str], set[str]]) -> None:
    flags: set[str] = set()
    for words in ([], ["plan"], ["run"], ["status"], ["resume"], ["retry"]):
        done = start(*words, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        flags |= set(re.findall(r"--[a-z][a-z-]+", done.stdout))
    explained = re.findall(r"--[a-z][a-z-]+", (ROOT / "docs" / "suite.md").read_text())
    of_trainings = {"--amp", "--cfg-options", "--data", "--demo", "--backbone", "--resume", "--hypothesis-profile"}
    assert {"--jobs", "--cluster", "--no-timing"} <= set(explained) - of_trainings <= flags
    assert heavy_imports("suite") == set()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "nowhere.yaml"], "the suite nowhere.yaml cannot be read: No such file or directory."),
        (["status", ROOT / "suites" / "demo.yaml", "--filter", "x y"], "has no job with 'x y' in its name"),
        (["run", ROOT / "suites" / "paper.yaml", "--filter", "fvnet_t_coco"], "there is no data in data/coco"),
        (["run", ROOT / "suites" / "demo.yaml", "--cluster", "slurm"], "there is no Slurm here"),
    ],
)
def test_mistakes_end_in_one_sentence(start: Start, tmp_path: Path, words: list[object], sentence: str) -> None:
    done = start(*words)
    assert done.returncode == 2
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert sentence in error
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_two_trainings_finish_beside_one_that_fails(
    start: Start, tmp_path: Path, tiny_coco: Path, small_run: list[str]
) -> None:
    """From a file to rows of a leaderboard."""
    common = dict(config=str(ROOT / "configs" / "retinanet_fvnet_t_coco.py"), data=str(tiny_coco))
    runs = [dict(common, name="good", seeds=[0, 1]), dict(common, name="bad", cfg_options=["model.neck.num_outs=two"])]
    suite = dict(scratch=True, cfg_options=[*small_run[1:], "train_cfg.max_epochs=1"], runs=runs)
    (tmp_path / "tiny.yaml").write_text(json.dumps(suite))  # which is YAML, too

    done = start("run", "tiny.yaml", "--jobs", 2, "--threads", 1)
    assert done.returncode == 1, done.stderr
    assert "3 jobs: 2 finished, 1 failed" in done.stdout
    assert re.search(r"failed      bad_seed0: .*two", done.stdout)
    assert "Traceback" not in done.stderr

    status = start("status", "tiny.yaml")
    assert re.search(r"good_seed1 +finished +1 +epoch 1: ", status.stdout)
    assert re.search(r"bad_seed0 +failed +1 ", status.stdout)
    command = re.search(r"next +python (tools/\S+) (\S+)", done.stdout)
    table = subprocess.run(
        [sys.executable, ROOT / command[1], command[2], "--no-html", "--no-figures"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert table.stdout == "1 rows in 1 tables: 4 files in leaderboard\n"
    assert "| 2 |" in (tmp_path / "leaderboard" / "leaderboard.md").read_text()  # seeds


def test_plan_measures_once(start: Start, tmp_path: Path) -> None:
    words = ["plan", ROOT / "suites" / "demo.yaml", "--work-dir", "w", "--filter", "semantic_fpn_fvnet_t", "--steps", 1]
    commands = start(*words, "--commands")
    assert len(commands.stdout.splitlines()) == 2
    assert "--seed 1 --demo" in commands.stdout

    done = start(*words)
    assert done.returncode == 0, done.stderr
    assert "timing 1 of 1: semantic_fpn_fvnet_t_ade20k_demo" in done.stderr
    assert re.search(r"estimate: [\d.]+ [CG]PU-hours and 0\.\d GB", done.stdout)
    (kept,) = (tmp_path / "w" / "plan").iterdir()
    measured = json.loads(kept.read_text())
    assert measured["train_seconds"] > 0
    assert measured["checkpoint_bytes"] > 4 * 3 * 4_000_000  # weights and AdamW's two moments of FVNet-T
    again = start(*words, "--no-timing")
    assert again.stdout == done.stdout
    assert "timing" not in again.stderr
