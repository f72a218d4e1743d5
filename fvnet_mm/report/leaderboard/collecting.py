"""The run records and benchmarks below folders, each read once, and in one sentence each what could not be taken.

A run's name is the path of its record below the folder that is tabulated, of several behind that folder's own name, so
that what is written does not depend on where they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fvnet_mm.errors import UserError
from fvnet_mm.records import RunRecord
from fvnet_mm.records.benchmark import BenchmarkRecord
from fvnet_mm.records.benchmark_file import BENCHMARK, read_benchmark
from fvnet_mm.records.from_config import OF_TEACHER
from fvnet_mm.records.reading import RECORD, TEST_RECORD, find_records, read_record
from fvnet_mm.report.leaderboard.verifying import check_predictions

SAME_MEASUREMENT = 0.05
"""Percentage points by which two evaluations of one checkpoint may differ, as on two devices."""


@dataclass(frozen=True)
class FoundRun:
    """A record, its name below the tabulated folder, and its file."""

    name: str
    file: Path
    record: RunRecord

    @property
    def folder(self) -> Path:
        """The work dir."""
        return self.file.parent


@dataclass(frozen=True)
class FoundBenchmark:
    """A benchmark's record and its name below the tabulated folder."""

    name: str
    record: BenchmarkRecord


@dataclass(frozen=True)
class Collection:
    """All runs and benchmarks that were read, the lowest names first, and the problems met, in the same order."""

    runs: tuple[FoundRun, ...]
    benchmarks: tuple[FoundBenchmark, ...]
    problems: tuple[str, ...]


def collect(folders: Sequence[Path], verify: bool = False) -> Collection:
    """Reads every record below some folders.

    A record that cannot be read, is damaged, has a path that is no text, or has predictions of another data set is left
    out and named, and so are folders that cannot be read; one whose predictions are missing, or cannot be checked
    against their ground truth, is named and kept. Copies of a record count once, and a test of a checkpoint that a
    training evaluated in the same way is that training's run.

    Args:
        folders: Work dirs, or folders that hold them.
        verify: Read the predictions whole, instead of looking at their beginning.

    Raises:
        UserError: A folder does not exist, or there is no record in any of them, or none that can be looked at.
    """
    problems: list[str] = []
    files = _files(folders, (RECORD, TEST_RECORD), problems)
    if not files and problems:
        raise UserError(f"nothing below {', '.join(map(str, folders))} can be tabulated: {' '.join(problems)}")
    if not files:
        raise UserError(
            f"there is no run.json below {', '.join(map(str, folders))}; train or test first, or import the work dir "
            "of another tool with: python tools/leaderboard.py import DIR."
        )
    runs = []
    for file, name in files.items():
        try:
            run = FoundRun(name, file, _without_confusion(read_record(file)))
            usable, complaints = check_predictions(run.record, run.folder, verify)
        except UserError as error:
            problems.append(_problem(name, file, error))
            continue
        problems += [f"{name}: {complaint}" for complaint in complaints]
        if usable and (complaint := _without_result(run.record)):
            problems.append(f"{name}: {complaint}")
        elif usable:
            runs.append(run)
    kept, conflicts = _once_each(runs)
    benchmarks = []
    for file, name in _files(folders, (BENCHMARK,), problems).items():
        try:
            benchmarks.append(FoundBenchmark(name, read_benchmark(file)))
        except UserError as error:
            problems.append(_problem(name, file, error))
    # Each once: a folder that cannot be read is met for the records and for the benchmarks.
    return Collection(tuple(kept), tuple(benchmarks), tuple(sorted(map(_printable, {*problems, *conflicts}))))


def _files(folders: Sequence[Path], file_names: Sequence[str], problems: list[str]) -> dict[Path, str]:
    """The records below some folders and their names, each once, under the first of the names that links give it.

    What cannot be looked into, or named in a file of text, is added to the problems.
    """
    names: dict[Path, str] = {}
    for folder, label in _labels(folders).items():
        unreadable: list[OSError] = []
        for file in find_records(folder, file_names, unreadable.append):
            names[file] = (label / file.relative_to(folder)).as_posix()
        for error in unreadable:
            name = (label / Path(error.filename).relative_to(folder)).as_posix()
            problems.append(f"{name}: the folder cannot be read ({error.strerror}).")
    first: dict[Path, Path] = {}
    for file in sorted(names, key=names.__getitem__):
        if _printable(names[file]) != names[file]:
            problems.append(f"{names[file]}: its path is not UTF-8, so no table can name it; rename the folder.")
        else:
            first.setdefault(file.resolve(), file)
    return {file: names[file] for file in first.values()}


def _printable(text: str) -> str:
    """Text that can be written as UTF-8: bytes of a path that cannot be decoded are escaped."""
    return text.encode(errors="backslashreplace").decode()


def _labels(folders: Sequence[Path]) -> dict[Path, Path]:
    """Folders that lie in no other, and what stands before the names of their runs: as much as tells them apart."""
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder; name work dirs, or a folder that holds them.")
    resolved = {folder.resolve() for folder in folders}
    outer = sorted(folder for folder in resolved if resolved.isdisjoint(folder.parents))
    length = int(len(outer) > 1)
    while len({*(labels := {folder: _last(folder, length) for folder in outer}).values()}) < len(outer):
        length += 1
    return labels


def _last(folder: Path, length: int) -> Path:
    return Path(*folder.parts[max(len(folder.parts) - length, 0) :])


def _problem(name: str, file: Path, error: UserError) -> str:
    """The reason in one line, the record named once and without the folders above the tabulated one."""
    reason = " ".join(str(error).split())
    for start in (str(file), name):
        reason = reason.removeprefix(start).lstrip(":, ")
    return f"{name}: {reason.replace(str(file), name)}"


def _without_confusion(record: RunRecord) -> RunRecord:
    """Drops what no table shows, and what is nearly all of a segmentor's record: gigabytes, of some thousand runs."""
    if record.result is None or record.result.confusion is None:
        return record
    return record.model_copy(update={"result": record.result.model_copy(update={"confusion": None})})


def _without_result(record: RunRecord) -> str | None:
    if record.status == "finished" and record.result is None:
        return "the run has ended without an evaluation, so there is nothing to tabulate."
    return None


def _once_each(runs: list[FoundRun]) -> tuple[list[FoundRun], list[str]]:
    """Drops copies, and tests of checkpoints whose training is there; names tests that say something else."""
    kept: list[FoundRun] = []
    problems = []
    measured: dict[tuple[object, ...], FoundRun] = {}
    for run in sorted(runs, key=lambda run: run.record.origin == "test"):  # trainings first
        key = _measurement(run.record)
        twin = measured.setdefault(key, run) if key is not None else run
        if twin is run or run.record.origin != "test":
            kept.append(run)
        elif (gap := _gap(run.record, twin.record)) is not None:
            problems.append(
                f"{run.name}: its {gap[0]} is {gap[1]:.2f}, but {twin.name}, of the same checkpoint, has {gap[2]:.2f}; "
                "the latter is tabulated."
            )
    return _without_copies(sorted(kept, key=lambda run: run.name)), problems


def _without_copies(runs: list[FoundRun]) -> list[FoundRun]:
    """Of records that are equal, the one of the lowest name, as of a work dir that was copied."""
    alike: dict[tuple[object, ...], list[FoundRun]] = {}
    kept = []
    for run in runs:
        record = run.record
        metrics = tuple(record.result.metrics.items()) if record.result is not None else ()
        group = alike.setdefault((record.checkpoint_sha256, record.times.updated, record.backbone.name, metrics), [])
        if all(other.record != record for other in group):
            group.append(run)
            kept.append(run)
    return kept


def _measurement(record: RunRecord) -> tuple[object, ...] | None:
    """What was measured and how: the checkpoint, the images, the model's and the test's settings; None if unknown.

    Not by whose weights a student was taught, which a test away from its training's record does not know.
    """
    if record.checkpoint_sha256 is None or record.result is None:
        return None
    val = record.data.val if record.data is not None else None
    images = val.fingerprint if val is not None else None
    protocol = record.protocol
    model = (protocol.model or "").partition(OF_TEACHER)[0]
    return record.checkpoint_sha256, record.task, images, model, protocol.test_pipeline, protocol.test_mode


def _gap(record: RunRecord, other: RunRecord) -> tuple[str, float, float] | None:
    """The first metric in which two evaluations of one checkpoint differ by more than the device explains."""
    mine, theirs = record.result.metrics, other.result.metrics
    for name in sorted(set(mine) & set(theirs)):
        if None not in (mine[name], theirs[name]) and abs(mine[name] - theirs[name]) > SAME_MEASUREMENT:
            return name, mine[name], theirs[name]
    return None
