"""Reading and writing ``benchmark.json``."""

from __future__ import annotations

from pathlib import Path

import pydantic_core
from pydantic import ValidationError

from fvnet_mm.bench.speed.schema import SCHEMA_VERSION, BenchmarkRecord, Size
from fvnet_mm.errors import UserError
from fvnet_mm.files import replacing
from fvnet_mm.records import Speed

RECORD = "benchmark.json"


def write_benchmark(record: BenchmarkRecord, path: Path) -> None:
    """Writes a record at once or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_benchmark(path: Path) -> BenchmarkRecord:
    """Reads and validates a record; a folder stands for the ``benchmark.json`` in it.

    Raises:
        UserError: The file cannot be read, is no JSON or of a newer version, or is not what the schema allows.
    """
    path = path / RECORD if path.is_dir() else path
    try:
        content = pydantic_core.from_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"the benchmark record {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): is it a {RECORD}, and whole?") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        stated = "has no schema_version" if version is None else f"has schema_version {version!r:.40}"
        raise UserError(f"{path} {stated} and this fvnet_mm reads benchmark records of version {SCHEMA_VERSION}.")
    try:
        return BenchmarkRecord.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the record"
        raise UserError(f"{path} is no valid benchmark record: {place}: {first['msg']}.") from error


def speed_of(record: BenchmarkRecord, model: str, size: Size) -> Speed | None:
    """What a run record says of speed, of a whole model where it was timed, else of its trunk.

    Latency is the median at batch 1, throughput that of the greatest batch. None where nothing was timed at that size,
    and of training steps.
    """
    if record.conditions.training:
        return None
    for what in ("model", "trunk"):
        found = [
            entry
            for entry in record.measurements
            if (entry.model, entry.case.what, entry.case.size) == (model, what, size)
        ]
        if found:
            alone = next((entry for entry in found if entry.case.batch == 1), None)
            return Speed(
                latency_ms=alone and alone.times.p50_ms,
                throughput=max(found, key=lambda entry: entry.case.batch).throughput,
                device=record.conditions.device,
                precision=record.conditions.precision,
                shape=size,
            )
    return None
