"""What a benchmark prints."""

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from fvnet_mm.records.benchmark import BenchmarkRecord, Clock, Ratio, Skipped
from fvnet_mm.report.benchmark.tables import half_width, show_benchmark, warnings_of

Make = Callable[..., BenchmarkRecord]


def printed(record: BenchmarkRecord) -> str:
    text = io.StringIO()
    show_benchmark(record, Console(file=text, width=80))
    return text.getvalue()


def test_table_of_every_case_and_its_conditions(benchmark: Make) -> None:
    record = benchmark({"slow": 30.0, "fast": 20.0}, sizes=((64, 64), (800, 1333)))
    text = printed(record)
    assert f"conditions {record.conditions.fingerprint}: Example CPU, torch 2.15.0, float32, 2 threads" in text
    titles = re.findall(r"^trunk, (\S+), batch (\d+)$", text, re.MULTILINE)
    assert titles == [("64x64", "1"), ("64x64", "4"), ("800x1333", "1"), ("800x1333", "4")]
    lines = [" ".join(line.split()) for line in text.splitlines() if line.startswith("fast  ") and "[" in line]
    # 8 MB of weights and 4 MB for each of 4 images take 24 ms at 1 GB/s.
    assert lines[1] == "fast 1.500 [1.485, 1.515] 80.0 120 160 100 6 40.0 24.0 30%"
    assert text.count("1 (baseline)") == 4
    assert "memory (MB)" not in text  # nothing to say on a CPU
    assert "note:" not in text


def test_brackets_are_no_markup(benchmark: Make, capsys: pytest.CaptureFixture[str]) -> None:
    note = "b fails: expected [batch, channels] but got [/aten]"
    show_benchmark(benchmark({"a": 2.0}, batches=(1,)).model_copy(update=dict(notes=(note,))))
    assert f"note: {note}" in capsys.readouterr().out


def changed(record: BenchmarkRecord, **changes: object) -> BenchmarkRecord:
    first, *rest = record.measurements
    return record.model_copy(update=dict(measurements=(first.model_copy(update=changes), *rest)))


def test_what_a_reader_must_know_is_said(benchmark: Make) -> None:
    record = benchmark({"a": 2.0, "b": 3.0}, batches=(1,))
    assert warnings_of(record) == []
    wide = changed(record, ratio=Ratio(value=1.0, low=0.9, high=1.02))
    assert warnings_of(wide) == [
        "a, trunk at 64x64, batch 1: the ratio's interval reaches 11% to a side; more --rounds narrow it."
    ]
    hot = changed(record, before=Clock(mhz=1000, throttled=()), after=Clock(mhz=700, throttled=("thermal",)))
    assert warnings_of(hot) == ["a, trunk at 64x64, batch 1: the device was throttled (thermal)."]


def test_counters_that_disagree_or_fail_are_said(benchmark: Make) -> None:
    record = benchmark({"a": 2.0}, batches=(1,))
    (model,) = record.models

    def with_counts(**changes: object) -> BenchmarkRecord:
        counted = (model.counted[0].model_copy(update=changes),)
        return record.model_copy(update=dict(models=(model.model_copy(update=dict(counted=counted)),)))

    assert warnings_of(with_counts(other_macs=10**9 - 40_000_000)) == []
    assert warnings_of(with_counts(other_macs=10**9 - 60_000_000)) == [
        "a, trunk at 64x64: the counters of MACs differ by 6.0%."
    ]
    failing = with_counts(other_macs=None, other_failed="RuntimeError: no")
    assert warnings_of(failing) == ["a, trunk at 64x64: the other counter of MACs fails (RuntimeError: no)."]
    assert re.search(r"^a +trunk 64x64 +1.000 +fails", printed(failing), re.MULTILINE)
    skipped = with_counts(skipped=(Skipped(operator="gelu", calls=3, share=0.25),), ftfu_operations=2_500_000)
    assert re.search(r"1.000 +1.000 +2.5 .*gelu 25% *$", printed(skipped), re.MULTILINE)


def test_half_width_is_of_the_longer_side() -> None:
    assert half_width(Ratio(value=2.0, low=1.6, high=2.2)) == 0.25
    assert half_width(Ratio(value=2.0)) is None
    assert half_width(None) is None
