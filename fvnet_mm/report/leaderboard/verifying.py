"""Whether the predictions beside a record are those that its numbers were computed from."""

from __future__ import annotations

import itertools
import json
import os
import re
from functools import cache
from pathlib import Path

from fvnet_mm.errors import UserError
from fvnet_mm.records import Predictions, RunRecord
from fvnet_mm.records.digests import sha256_of

_HEAD = 1 << 14
"""Bytes of a result file that are looked at unless all are: some dozens of boxes, or a few masks."""

_FILES = 8
"""Label maps of a folder whose names are looked at unless all are."""

_IMAGE_ID = re.compile(rb'"image_id"\s*:\s*(-?\d+|"(?:[^"\\]|\\.)*")\s*[,}]')  # whole ones: a beginning may end in one


class Verifier:
    """Checks predictions of many records; ground truth that they share is read once.

    Args:
        thorough: Whether to read all of the predictions and to compare their digest with the record's.
    """

    def __init__(self, thorough: bool) -> None:
        self.thorough = thorough

    def check(self, record: RunRecord, folder: Path) -> tuple[bool, list[str]]:
        """Looks at the predictions of a record in a work dir.

        Returns:
            Whether the record can be believed, and complaints in one sentence each. Missing predictions are complained
            about, but say nothing against the numbers; others than those of the record do.
        """
        usable, complaints = True, []
        for predictions in record.result.predictions if record.result is not None else ():
            place = folder / predictions.path
            if not place.exists():
                complaints.append(f"its predictions {predictions.path} are missing; it can be tabulated, not compared.")
                continue
            try:
                reason = self._mismatch(predictions, place)
            except OSError as error:
                reason = f"cannot be read ({error.strerror})"
            except ValueError:
                reason = "name an image in a way that is no JSON"
            if reason is not None:
                usable = False
                complaints.append(f"its predictions {predictions.path} {reason}, so its numbers are left out.")
        return usable, complaints

    def _mismatch(self, predictions: Predictions, place: Path) -> str | None:
        if self.thorough and predictions.sha256 is not None and sha256_of(place) != predictions.sha256:
            return "are not those that the record was written with (their SHA-256 differs)"
        truth = Path(predictions.ground_truth) if predictions.ground_truth is not None else None
        if truth is None or not truth.exists():
            return None
        strangers = self._strangers(predictions.kind, place, truth)
        if strangers:
            return f"are of another data set: {strangers[0]} is not in {truth.name}"
        return None

    def _strangers(self, kind: str, place: Path, truth: Path) -> list[str]:
        """Images with predictions that the ground truth does not have."""
        if kind in ("coco_boxes", "coco_masks"):
            found = _result_images(place, None if self.thorough else _HEAD)
            return [f"image {image}" for image in sorted(found - _annotated_images(truth), key=str)]
        if kind == "label_maps":
            names = _files_of(place, None if self.thorough else _FILES)
            return [f"image {name}" for name in sorted(names - _label_maps(truth))]
        return []


def _result_images(file: Path, head: int | None) -> set[object]:
    """Image ids of a COCO result file, or of its beginning."""
    with file.open("rb") as opened:
        text = opened.read(-1 if head is None else head)
    return {json.loads(image) for image in _IMAGE_ID.findall(text)}


@cache
def _annotated_images(file: Path) -> frozenset[object]:
    try:
        return frozenset(image["id"] for image in json.loads(file.read_bytes())["images"])
    except OSError as error:
        raise UserError(f"its ground truth {file.name} cannot be read: {error.strerror}.") from error
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"its ground truth {file.name} is no annotation file of COCO: {error!r}.") from error


def _files_of(folder: Path, at_most: int | None) -> set[str]:
    with os.scandir(folder) as entries:
        names = (Path(entry.name) for entry in entries)
        return {name.stem for name in itertools.islice((n for n in names if n.suffix == ".png"), at_most)}


@cache
def _label_maps(folder: Path) -> frozenset[str]:
    return frozenset(path.stem for path in folder.rglob("*.png"))
