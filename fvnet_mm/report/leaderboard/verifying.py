"""Whether the predictions beside a record are those that its numbers were computed from."""

from __future__ import annotations

import itertools
import json
import os
import re
from functools import cache
from pathlib import Path

from fvnet_mm.files import sha256_of
from fvnet_mm.records import Predictions, RunRecord

_HEAD = 1 << 14
"""Bytes of a result file that are looked at unless all are: some dozens of boxes, or a few masks."""

_FILES = 8
"""Label maps of a folder whose names are looked at unless all are."""

_IMAGE_ID = re.compile(rb'"image_id"\s*:\s*(-?\d+|"(?:[^"\\]|\\.)*")\s*[,}]')  # whole ones: a beginning may end in one


class _NoGroundTruth(Exception):
    """Why predictions cannot be held against ground truth: its name, and what is wrong with it."""


def check_predictions(record: RunRecord, folder: Path, thorough: bool) -> tuple[bool, list[str]]:
    """Looks at the predictions of a record in a work dir; ground truth that many records share is read once.

    Args:
        record: That says which they are.
        folder: The work dir.
        thorough: Whether to read all of the predictions and to compare their digest with the record's.

    Returns:
        Whether the record can be believed, and complaints in one sentence each. Missing predictions, and ground truth
        that cannot be read, are complained about, but say nothing against the numbers; predictions that are others than
        those of the record do.
    """
    usable, complaints = True, []
    for predictions in record.result.predictions if record.result is not None else ():
        place = folder / predictions.path
        reason = None
        try:
            if place.exists():
                reason = _mismatch(predictions, place, thorough)
            else:
                complaints.append(f"its predictions {predictions.path} are missing; it can be tabulated, not compared.")
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
        except ValueError:
            reason = "name an image in a way that is no JSON"
        except _NoGroundTruth as error:
            complaints.append(
                f"its ground truth {error}, so that nobody knows whether its predictions {predictions.path} are of it; "
                "it is tabulated, and can be compared with a whole copy (--ground-truth)."
            )
        if reason is not None:
            usable = False
            complaints.append(f"its predictions {predictions.path} {reason}, so its numbers are left out.")
    return usable, complaints


def _mismatch(predictions: Predictions, place: Path, thorough: bool) -> str | None:
    if thorough and predictions.sha256 is not None and sha256_of(place) != predictions.sha256:
        return "are not those that the record was written with (their SHA-256 differs)"
    if predictions.ground_truth is None or predictions.kind == "classes":
        return None
    truth = Path(predictions.ground_truth)
    known = _images_of(predictions.kind, truth)
    if known is None:
        return None
    strangers = sorted(_predicted(predictions.kind, place, thorough) - known, key=str)
    if strangers:
        return f"are of another data set: image {strangers[0]} is not in {truth.name}"
    return None


def _predicted(kind: str, place: Path, thorough: bool) -> set[object]:
    """Images with predictions, or the first of them."""
    if kind == "label_maps":
        return _files_of(place, None if thorough else _FILES)
    return _result_images(place, None if thorough else _HEAD)


def _result_images(file: Path, head: int | None) -> set[object]:
    """Image ids of a COCO result file, or of its beginning."""
    with file.open("rb") as opened:
        text = opened.read(-1 if head is None else head)
    return {json.loads(image) for image in _IMAGE_ID.findall(text)}


@cache
def _images_of(kind: str, truth: Path) -> frozenset[object] | None:
    """Images of the ground truth; None where it is no longer there.

    Raises:
        _NoGroundTruth: It cannot be read, or is something else.
    """
    try:
        if not truth.exists():
            return None
        return _label_maps(truth) if kind == "label_maps" else _annotated_images(truth)
    except OSError as error:
        raise _NoGroundTruth(f"{truth.name} cannot be read ({error.strerror})") from error


def _annotated_images(file: Path) -> frozenset[object]:
    try:
        return frozenset(image["id"] for image in json.loads(file.read_bytes())["images"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _NoGroundTruth(f"{file.name} is no annotation file of COCO ({error!r})") from error


def _files_of(folder: Path, at_most: int | None) -> set[str]:
    with os.scandir(folder) as entries:
        names = (Path(entry.name) for entry in entries)
        return {name.stem for name in itertools.islice((n for n in names if n.suffix == ".png"), at_most)}


def _label_maps(folder: Path) -> frozenset[str]:
    names = frozenset(path.stem for path in folder.rglob("*.[pP][nN][gG]"))
    if not names:  # as of a folder that cannot be read
        raise _NoGroundTruth(f"{folder.name} is no folder of label maps (no *.png can be seen in it)")
    return names
