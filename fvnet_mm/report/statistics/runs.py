"""Runs that are to be compared: whether they may be, and where their predictions and the ground truth are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fvnet_mm.errors import UserError
from fvnet_mm.files import read_or_said, sha256_of
from fvnet_mm.records import Predictions, RunRecord

_LONGEST_VALUE = 40  # characters of a protocol's field that a message quotes; pipelines and models have hundreds
_LISTED = 5  # unknown fields of a protocol that a note names


@dataclass(frozen=True)
class Run:
    """A record and the folder that it was read from."""

    record: RunRecord
    folder: Path

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.record.config.name} in {self.folder}"

    @property
    def predictions(self) -> dict[str, Predictions]:
        """What the record says of its predictions, by their kind."""
        kept = self.record.result.predictions if self.record.result else ()
        return {predictions.kind: predictions for predictions in kept}

    def file(self, kind: str) -> Path:
        """Find the predictions of a kind, which may be a folder.

        Raises:
            UserError: they are missing, cannot be read, or have changed since the record was written.
        """
        predictions = self.predictions[kind]
        path = self.folder / predictions.path
        with read_or_said(f"the predictions {path}"):
            if not path.exists():
                raise UserError(
                    f"the predictions {path} of {self.name} are missing; evaluate again with tools/test.py."
                )
            changed = predictions.sha256 is not None and sha256_of(path) != predictions.sha256
        if changed:
            raise UserError(
                f"the predictions {path} have changed since the record beside them was written (their SHA-256 differs);"
                " evaluate again with tools/test.py."
            )
        return path


def check_comparable(runs: Sequence[Run], allow_other_protocol: bool) -> list[str]:
    """Check that records allow a comparison, and return what a reader of it must know.

    Raises:
        UserError: tasks, classes, validation data or, if not allowed, protocols differ; a run keeps no predictions or
            other kinds of them.
    """
    reference = runs[0]
    for run in runs:
        if run.record.task != reference.record.task:
            raise UserError(
                f"{reference.name} does {_in_words(reference.record.task)} and {run.name}"
                f" {_in_words(run.record.task)}; compare runs of one task."
            )
        if run.record.data is None:
            raise UserError(f"the record of {run.name} does not say what its classes are; evaluate again.")
        if run.record.data.classes != reference.record.data.classes:
            raise UserError(f"{reference.name} and {run.name} have different classes; compare runs on the same data.")
        if not run.predictions:
            raise UserError(f"{run.name} keeps no predictions; evaluate its checkpoint again with tools/test.py.")
        if run.predictions.keys() != reference.predictions.keys():
            raise UserError(
                f"{reference.name} keeps predictions of the kinds {_listed(reference.predictions)} and {run.name} of"
                f" {_listed(run.predictions)}; evaluate both again with tools/test.py."
            )
    if len(_fingerprints(runs) - {None}) > 1:
        raise UserError(
            f"{_listed(run.name for run in runs)} were evaluated on different validation data (the fingerprints in"
            " their records differ); compare runs on the same data."
        )
    notes = [_unfinished(run) for run in runs if run.record.status != "finished"]
    notes += [note for run in runs[1:] for note in _differences_of_protocol(reference, run, allow_other_protocol)]
    if unknown := reference.record.protocol.unknown:
        more = f" and {len(unknown) - _LISTED} more fields" if len(unknown) > _LISTED else ""
        notes.append(f"the runs may differ in what their records do not say: {_listed(unknown[:_LISTED])}{more}")
    return notes


def find_ground_truth(runs: Sequence[Run], kind: str, given: Path | None = None) -> Path:
    """Find the ground truth that the predictions of all runs were evaluated with.

    An annotation file is held against the records' fingerprint. Label maps are not, as theirs is of the images, too.

    Args:
        runs: That :func:`check_comparable` has found to be of the same data.
        kind: Of their predictions.
        given: Where it is, if not where the records say.

    Raises:
        UserError: it is not there or cannot be read, it is another annotation file, or records without a fingerprint
            name places of different content.
    """
    if given is not None:
        if not _is_there(given):
            raise UserError(f"the ground truth {given} does not exist; name the annotation file or folder of labels.")
        places = {given}
    else:
        places = {Path(run.predictions[kind].ground_truth) for run in runs if run.predictions[kind].ground_truth}
    existing = sorted(place for place in places if _is_there(place))
    if not existing:
        raise UserError(
            f"the ground truth of {runs[0].name} is not where its record says"
            f" ({_listed(sorted(places)) or 'nowhere'}); name where it is now with --ground-truth."
        )
    fingerprints = _fingerprints(runs)
    if None in fingerprints and (len(existing) < len(places) or len({_digest(place) for place in existing}) > 1):
        raise UserError(
            f"{_listed(sorted(places))} may be different ground truth, as not all records have its fingerprint; name"
            " the one that is meant."
        )
    known = fingerprints - {None}
    if not (known and kind.startswith("coco_")):
        return existing[0]
    for place in existing:
        if _digest(place) in known:  # of COCO's layout the fingerprint is the annotation file's digest
            return place
    raise UserError(
        f"{_listed(existing)} is not the annotation file that {runs[0].name} was evaluated with (their SHA-256 differ);"
        " name the right one, or evaluate again."
    )


def _is_there(truth: Path) -> bool:
    with read_or_said(f"the ground truth {truth}"):
        return truth.exists()


def _digest(truth: Path) -> str:
    with read_or_said(f"the ground truth {truth}"):
        return sha256_of(truth)


def _unfinished(run: Run) -> str:
    length, last = run.record.protocol.length, run.record.evaluations[-1:]
    seen = f": its predictions are those after {run.record.unit} {last[0].step}" if last else ""
    return f"{run.name} has not finished{seen}{f' of {length}' if seen and length is not None else ''}"


def _fingerprints(runs: Sequence[Run]) -> set[str | None]:
    """Of their validation data; None where a record does not say."""
    return {run.record.data.val.fingerprint if run.record.data.val else None for run in runs}


def _differences_of_protocol(reference: Run, run: Run, allowed: bool) -> list[str]:
    differences = reference.record.protocol.differences(run.record.protocol)
    if not differences:
        return []
    listed = _listed(
        _in_words(field)
        + (f" {pair[0]} and {pair[1]}" if max(len(str(value)) for value in pair) <= _LONGEST_VALUE else "")
        for field, pair in differences.items()
    )
    if allowed:
        return [f"{run.name} is of another protocol than {reference.name}: {listed}"]
    raise UserError(
        f"{reference.name} and {run.name} are of different protocols ({listed}), so that their difference is not one"
        " of the backbones alone; compare runs of one protocol, or allow other protocols."
    )


def _in_words(name: str) -> str:
    return name.replace("_", " ")


def _listed(items: Iterable[object]) -> str:
    return ", ".join(map(str, items))
