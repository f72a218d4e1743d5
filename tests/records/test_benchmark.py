"""benchmark.json: what it holds, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from fvnet_mm.errors import UserError
from fvnet_mm.records.benchmark import BenchmarkRecord, Conditions, Counted
from fvnet_mm.records.benchmark_file import BENCHMARK, read_benchmark, write_benchmark

Make = Callable[..., BenchmarkRecord]


def test_round_trip(benchmark: Make, tmp_path: Path) -> None:
    record = benchmark({"a": 2.0, "b": 3.0}, sizes=((64, 64), (800, 1333)), notes=("a note",))
    write_benchmark(record, tmp_path / "new" / BENCHMARK)
    assert read_benchmark(tmp_path / "new" / BENCHMARK) == record
    assert [file.name for file in (tmp_path / "new").iterdir()] == [BENCHMARK]


def test_what_is_no_record_is_refused_in_one_sentence(benchmark: Make, tmp_path: Path) -> None:
    file = tmp_path / BENCHMARK
    with pytest.raises(UserError, match="cannot be read"):
        read_benchmark(file)
    whole = benchmark({"a": 2.0}).model_dump_json()
    file.write_text(whole[:-20])
    with pytest.raises(UserError, match="not JSON"):
        read_benchmark(file)
    for change, message in (
        ({"schema_version": 99}, "version 1"),
        ({"schema_version": None}, "schema_version"),
        ({"bandwidth": -1}, "bandwidth"),
        ({"updated": "2026-01-31T12:00:00"}, "updated: Input should have timezone info"),
        ({"surplus": 1}, "surplus"),
        ({"baseline": "nobody"}, "record: nobody is named as baseline or measured, and not among the models"),
    ):
        file.write_text(json.dumps(json.loads(whole) | change))
        with pytest.raises(UserError, match=message):
            read_benchmark(file)


def test_place_that_cannot_be_written(benchmark: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_benchmark(benchmark({"a": 2.0}), tmp_path / "file" / BENCHMARK)


@pytest.mark.parametrize("field", list(Conditions.model_fields))
def test_every_condition_is_in_the_fingerprint(conditions: Conditions, field: str) -> None:
    others = dict(backend="cuda", precision="bf16", threads=3, device="another", driver="1", torch="another")
    changed = conditions.model_copy(update={field: others.get(field, not getattr(conditions, field))})
    assert changed.fingerprint != conditions.fingerprint
    assert changed.summary != conditions.summary or field == "backend"  # which the device's name tells


def test_floor_is_weights_once_and_activations_of_every_image() -> None:
    counted = Counted(
        what="trunk", size=(32, 32), macs={"backbone": 1}, weight_bytes=3_000_000, activation_bytes=1_000_000
    )
    assert counted.floor_ms(1, 1e9, "float32") == pytest.approx(4.0)
    assert counted.floor_ms(5, 1e9, "float32") == pytest.approx(8.0)
    assert counted.floor_ms(5, 1e9, "bf16") == pytest.approx(4.0)


def test_numbers_that_are_none_are_refused(conditions: Conditions) -> None:
    with pytest.raises(ValidationError):
        Conditions(**(conditions.model_dump() | {"threads": 0}))
