"""The drills in small, in children of this process: see docs/reliability.md for the large ones."""

import random
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def drill(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """The module that a test asks for by its first parameter."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return import_module(request.param)


@pytest.mark.parametrize("drill", ["kill"], indirect=True)
def test_killed_trainings_end_as_the_one_left_alone(drill: ModuleType, tmp_path: Path) -> None:
    counts = drill.drill(tmp_path, 3, random.Random(1))
    assert counts["kills"] == 3
    assert counts["kills while a checkpoint was written"] >= 1
    assert counts["trainings that ended as the one left alone"] >= 1


@pytest.mark.parametrize("drill", ["ranks"], indirect=True)
def test_two_processes_learn_what_one_learns(drill: ModuleType, tmp_path: Path) -> None:
    drill.curves(tmp_path, largest=2)


@pytest.mark.parametrize("drill", ["ranks"], indirect=True)
def test_two_processes_leave_out_the_same_step(drill: ModuleType, tmp_path: Path) -> None:
    drill.nonfinite(tmp_path)


@pytest.mark.parametrize("drill", ["fuzz"], indirect=True)
@pytest.mark.parametrize("kind", ["annotations", "labels", "records"])
def test_spoilt_files_end_in_a_sentence(drill: ModuleType, kind: str, tmp_path: Path) -> None:
    counts = drill.DRILLS[kind](tmp_path, 150)
    assert counts["inputs"] >= 150
    assert counts["refused in a sentence"] > 20
    assert counts["taken"] > 5
