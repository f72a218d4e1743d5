import importlib
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def speedups(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("speedups")


def test_the_page_is_what_was_measured(script: Callable[..., str]) -> None:
    assert script("speedups", "--check") == ""
    assert script("step_speed", "--check") == ""


def test_a_ratio_is_taken_round_by_round(speedups: ModuleType) -> None:
    """A machine that is three times slower in a round changes no ratio."""
    assert (
        speedups.ratio_in_words(dict(stock=[4.0, 12.0, 4.0], suite=[2.0, 6.0, 2.0])) == "2.00 (2.00 to 2.00, 3 rounds)"
    )
    # Ratios 1, 2 and 4: the logarithms' standard error is log(2) / sqrt(3), Student's t of two degrees 4.30265.
    spread = math.exp(4.30265 * math.log(2) / math.sqrt(3))
    words = speedups.ratio_in_words(dict(stock=[1.0, 2.0, 4.0], suite=[1.0, 1.0, 1.0]))
    assert words == f"2.00 ({2 / spread:.2f} to {2 * spread:.2f}, 3 rounds)"


def test_a_measurement_is_a_row(speedups: ModuleType) -> None:
    times = dict(stock=[10.0, 11.0, 12.0], suite=[1.0, 1.1, 1.2])
    text = speedups.measured_parts(dict(evaluation=dict(times=times, images=1000, machine="a machine")))
    assert "| COCO evaluation, 1,000 images x 100 detections" in text
    assert "| 11 s | 1.1 s | 10.00 (10.00 to 10.00, 3 rounds) |" in text
    assert "Measured on: a machine." in text
