"""The drills in small, each in a process of its own: see docs/reliability.md for the large ones.

They fork what they start, which torch forbids a process that has ever run a backward pass, as other tests do.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest


def drill(name: str, *words: object) -> dict[str, int]:
    """Runs a drill and returns the counts that it prints."""
    command = [sys.executable, Path(__file__).with_name(f"{name}.py"), *words]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr[-8000:]
    return {what: int(count) for what, count in re.findall(r"([a-z][a-z ]*) (\d+)\b", done.stdout)}


def test_killed_trainings_end_as_the_one_left_alone() -> None:
    counts = drill("kill", "--kills", 3, "--seed", 1)
    assert counts["kills"] == 3
    assert counts["kills while a checkpoint was written"] >= 1
    assert counts["trainings that ended as the one left alone"] >= 1


def test_two_processes_learn_what_one_learns() -> None:
    drill("ranks", "curves", "--largest", 2)


def test_two_processes_leave_out_the_same_step() -> None:
    drill("ranks", "nonfinite")


@pytest.mark.parametrize(("kind", "examples"), [("annotations", 150), ("labels", 150), ("records", 400)])
def test_spoilt_files_end_in_a_sentence(kind: str, examples: int) -> None:
    counts = drill("fuzz", kind, "--examples", examples)
    assert counts["inputs"] >= examples
    assert counts["refused in a sentence"] > 20
    assert counts["taken"] > 5
