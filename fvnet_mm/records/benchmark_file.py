"""Reading and writing ``benchmark.json``."""

from __future__ import annotations

from pathlib import Path

import pydantic_core
from pydantic import ValidationError

from fvnet_mm.errors import UserError
from fvnet_mm.files import write_text, written_or_said
from fvnet_mm.records.benchmark import SCHEMA_VERSION, BenchmarkRecord
from fvnet_mm.records.parts import first_faults

BENCHMARK = "benchmark.json"


def write_benchmark(record: BenchmarkRecord, path: Path) -> None:
    """Writes a record at once or not at all.

    Raises:
        UserError: The place cannot be written to.
    """
    with written_or_said(f"the benchmark record {path}"):
        write_text(path, record.model_dump_json(indent=1) + "\n")


def read_benchmark(path: Path) -> BenchmarkRecord:
    """Reads and validates a record.

    Raises:
        UserError: The file cannot be read, is no JSON or of another version, or is not what the schema allows.
    """
    try:
        content = pydantic_core.from_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"the benchmark record {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): is it a {BENCHMARK}, and whole?") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        stated = "has no schema_version" if version is None else f"has schema_version {version!r:.40}"
        raise UserError(f"{path} {stated} and this fvnet_mm reads benchmark records of version {SCHEMA_VERSION}.")
    try:
        return BenchmarkRecord.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path} is no valid benchmark record: {first_faults(error)}.") from error
