import importlib
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from fvnet_mm.records.benchmark import BenchmarkRecord
from fvnet_mm.records.benchmark_file import write_benchmark

ROOT = Path(__file__).parents[2]


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("speed")


def test_the_page_is_what_the_records_say(script: Callable[..., str]) -> None:
    assert script("speed", "--check") == ""


def test_a_rival_that_did_not_run(speed: ModuleType, benchmark: Callable[..., BenchmarkRecord]) -> None:
    """Whichever record lacks it, its column is there."""
    both = benchmark({"fvnet_s": 2.0, "repvit_m1_1": 3.0, "swiftformer_s": 4.0}, batches=(1,))
    one = benchmark({"fvnet_s": 2.0, "repvit_m1_1": 3.0}, batches=(1,), sizes=((96, 96),))
    for found in ([both, one], [one, both]):
        header, _, small, large = speed.versions(found, "fvnet_s")[0].splitlines()
        assert re.findall(r"times (\w+) \(1.0 M", header) == ["repvit_m1_1", "swiftformer_s"]
        assert small.endswith("| 1.50 [1.50, 1.50] | 2.00 [2.00, 2.00] |")
        assert large.endswith("| 1.50 [1.50, 1.50] | not run |")


def test_few_rounds_have_no_interval(speed: ModuleType, benchmark: Callable[..., BenchmarkRecord]) -> None:
    record = benchmark({"fvnet_s": 2.0, "repvit_m1_1": 3.0}, batches=(1,))
    few = [entry.model_copy(update=dict(round_ms=entry.round_ms[:5])) for entry in record.measurements]
    row = speed.versions([record.model_copy(update=dict(measurements=tuple(few)))], "fvnet_s")[0].splitlines()[2]
    assert row.endswith("| 1.50 |")


def test_a_record_that_was_cut_short_is_named(
    speed: ModuleType, benchmark: Callable[..., BenchmarkRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpu" / "benchmark.json"
    file.parent.mkdir()
    write_benchmark(benchmark({"fvnet_s": 2.0}), file)
    file.write_bytes(file.read_bytes()[:-40])
    monkeypatch.setattr(speed, "RECORDS", tmp_path)
    monkeypatch.setattr("sys.argv", ["speed", "--check"])
    with pytest.raises(SystemExit, match=f"^error: {file} is not JSON"):
        speed.main()
