"""Reading, finding and writing run records."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pydantic_core
from pydantic import ValidationError

from fvnet_mm.errors import UserError
from fvnet_mm.files import write_text
from fvnet_mm.records.parts import first_faults
from fvnet_mm.records.schema import SCHEMA_VERSION, RunRecord

RECORD, TEST_RECORD = "run.json", "test.json"
"""File names: a run's record, and that of a test in the work dir of a training."""

_CONTENTS = {"predictions", "demo_data", "vis", "vis_data"}
"""Folders of a work dir that hold many files and no records."""

_ROW_OF_NUMBERS = re.compile(r"\[\n\s+(-?[\d.][^\[\]{}\"]*?)\s*\]")


class NewerRecord(UserError):
    """A record that a newer fvnet_mm has written, and that this one therefore leaves alone."""


def read_record(path: Path) -> RunRecord:
    """Reads and validates a record.

    Raises:
        NewerRecord: It was written by a newer version.
        UserError: The file cannot be read, is cut short or no JSON, or holds what the schema does not allow, such as
            unknown fields, metrics that are no numbers, or a protocol whose fingerprint is another.
    """
    path = Path(path)
    try:
        content = pydantic_core.from_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"the run record {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        cut = "EOF" in str(error)
        advice = "the file is cut short; copy it again, or test the checkpoint again" if cut else "it is no run record"
        raise UserError(f"{path} is not JSON ({error}): {advice}.") from error
    if not isinstance(content, dict) or "schema_version" not in content:
        raise UserError(f"{path} is no run record: it has no schema_version.")
    version = content["schema_version"]
    if type(version) is not int:  # nor a bool
        raise UserError(f"{path} is no run record: its schema_version is {version!r:.40}, no whole number.")
    if version > SCHEMA_VERSION:
        raise NewerRecord(
            f"{path} has schema version {version}, written by a newer fvnet_mm; this one reads version "
            f"{SCHEMA_VERSION}, so update it."
        )
    try:
        return RunRecord.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path} is no valid run record: {first_faults(error)}.") from error


def write_record(record: RunRecord, path: Path) -> None:
    """Writes a record at once or not at all; lists of numbers, such as rows of a confusion matrix, take a line each."""
    text = _ROW_OF_NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", record.model_dump_json(indent=2))
    write_text(path, text + "\n")


def find_records(
    folder: Path,
    names: Sequence[str] = (RECORD, TEST_RECORD),
    unreadable: Callable[[OSError], None] | None = None,
) -> list[Path]:
    """All ``run.json`` and ``test.json`` (or files of other names) in a folder and below it, sorted.

    Each once, through links to folders, too.

    Args:
        folder: Where to look.
        names: Of the files.
        unreadable: Told of each folder that cannot be read, which is then passed over.

    Raises:
        UserError: A folder cannot be read, and nobody is to be told.
    """
    found, seen = [], set()
    for parent, folders, files in os.walk(folder, onerror=unreadable or _refuse, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a folder above, or a second one
            folders.clear()
            continue
        seen.add(real)
        of_run = RECORD in files or TEST_RECORD in files
        folders[:] = sorted(name for name in folders if not (of_run and name in _CONTENTS))
        found += [Path(parent, name) for name in names if name in files]
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise UserError(f"the folder {error.filename} cannot be read: {error.strerror}.") from error
