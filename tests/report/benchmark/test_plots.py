"""Which plots a benchmark has."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from fvnet_mm.records.benchmark import BenchmarkRecord
from fvnet_mm.report.benchmark.plots import draw_benchmark

Make = Callable[..., BenchmarkRecord]


def drawn(record: BenchmarkRecord, folder: Path) -> set[str]:
    files = draw_benchmark(record, folder)
    assert sorted(files) == sorted(folder.iterdir())
    return {file.name for file in files}


def test_ratios_and_both_sweeps(benchmark: Make, tmp_path: Path) -> None:
    record = benchmark({"a": 2.0, "b": 3.0}, sizes=((64, 64), (64, 96)), parts=("trunk", "predict"))
    names = {f"{name}{suffix}" for name in ("ratios", "sizes", "batches") for suffix in (".svg", ".png")}
    assert drawn(record, tmp_path) == names
    for name in names:
        if name.endswith(".png"):
            with Image.open(tmp_path / name) as picture:
                assert picture.getextrema()[0][0] < 128  # something is on it
    before = (tmp_path / "ratios.svg").read_bytes()
    draw_benchmark(record, tmp_path)
    assert (tmp_path / "ratios.svg").read_bytes() == before


def test_batches_that_differ_by_size_are_no_sweep(benchmark: Make, tmp_path: Path) -> None:
    record = benchmark({"a": 2.0, "b": 3.0}, sizes=((64, 64), (64, 96)), batches=(1, 4))
    chosen = {(record.cases[0].size, 1), (record.cases[-1].size, 4)}
    kept = [entry for entry in record.measurements if (entry.case.size, entry.case.batch) in chosen]
    assert drawn(record.model_copy(update=dict(measurements=tuple(kept))), tmp_path) == {"ratios.svg", "ratios.png"}


def test_nothing_to_compare_nothing_to_sweep(benchmark: Make, tmp_path: Path) -> None:
    assert drawn(benchmark({"a": 2.0}, batches=(1,)), tmp_path) == set()
    assert drawn(benchmark({"a": 2.0, "b": 1.0}, batches=(1,)), tmp_path) == {"ratios.svg", "ratios.png"}
