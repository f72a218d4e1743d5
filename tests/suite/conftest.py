"""Suites that are read from text, and a stand-in for tools/train.py that takes a moment, not minutes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from fvnet_mm.suite.reading import Suite, read_suite

settings.register_profile("thorough", max_examples=10_000, deadline=None)

RECORD = Path(__file__).parents[1] / "report/leaderboard/records/retinanet_fvnet_t_seed0/run.json"

TRAINER = f"""
import argparse, json, os, sys, time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("config")
parser.add_argument("--work-dir", type=Path)
parser.add_argument("--seed", type=int)
parser.add_argument("--resume", action="store_true")
parser.add_argument("--demo", action="store_true")
parser.add_argument("--backbone")
parser.add_argument("--cfg-options", nargs="+", default=[])
arguments = parser.parse_args()
options = dict(option.split("=") for option in arguments.cfg_options)
saved = arguments.work_dir / "epoch_1.pth"
done = int(saved.read_text()) if arguments.resume and saved.exists() else 0
record = json.loads(Path({str(RECORD)!r}).read_text())
with (arguments.work_dir / "steps").open("a") as steps:
    for step in range(done, int(options.get("steps", 2))):
        print(step, time.monotonic(), arguments.resume, os.environ["OMP_NUM_THREADS"], file=steps, flush=True)
        if step == int(options.get("fails_at", -1)):
            print("Traceback: noise")
            sys.exit("error: no such luck")
        time.sleep(0.2)
        saved.write_text(str(step + 1))
        (arguments.work_dir / "run.json").write_text(json.dumps(record | dict(status="running", seed=arguments.seed)))
(arguments.work_dir / "run.json").write_text(json.dumps(record | dict(status="finished", seed=arguments.seed)))
"""
"""Takes 0.2 s a step, saves how far it has come, and fails at the step that it is told to."""


@pytest.fixture
def trainer(tmp_path: Path) -> Path:
    """The stand-in's file."""
    file = tmp_path / "trainer.py"
    file.write_text(TRAINER)
    return file


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], Suite]:
    """Reads a suite from text; its work dir is ``work`` in an empty folder."""

    def call(text: str) -> Suite:
        file = tmp_path / "suite.yaml"
        file.write_text(text)
        return read_suite(file, tmp_path / "work")

    return call
