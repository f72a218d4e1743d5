"""COCO annotation files: read once, their form checked, so that what follows can rely on it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from fvnet_mm.data.cache import Stamp, file_stamp
from fvnet_mm.errors import UserError, enumeration


class CocoImage(TypedDict):
    """An entry of ``images``: width and height in pixels."""

    id: int
    file_name: str
    width: int
    height: int


class CocoAnnotation(TypedDict):
    """An entry of ``annotations``: ``bbox`` is (x, y, width, height) in pixels."""

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int


class CocoCategoryEntry(TypedDict):
    """An entry of ``categories``."""

    id: int
    name: str


@dataclass(frozen=True)
class CocoDocument:
    """The content of an annotation file, of which every entry has the keys and types that its class says."""

    path: Path
    stamp: Stamp
    """The file's, taken before it was read."""
    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategoryEntry]
    extras: dict[str, object]
    """What else the file holds: ``info``, ``licenses`` ..."""


def read_coco_document(path: Path) -> CocoDocument:
    """Read an annotation file and check its form.

    Several readers share a :class:`~fvnet_mm.data.coco_index.CocoDocuments`.

    Raises:
        UserError: it can't be read, is no JSON, lacks a key or an entry, or has a value of the wrong type.
    """
    stamp = file_stamp(path) if Path(path).is_file() else (0, 0, 0)
    content = _read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a JSON {type(content).__name__} instead of an object with {_SECTIONS_TEXT}.")
    missing = [name for name in _SECTIONS if name not in content]
    if missing:
        raise UserError(
            f"{path} lacks {enumeration(map(repr, missing))}: a COCO instances file is an object with {_SECTIONS_TEXT}."
        )
    for name, keys in _SECTIONS.items():
        entries = content[name]
        if not isinstance(entries, list):
            raise UserError(f"{path}: {name!r} is not a list, as COCO's instances files have it.")
        if not entries:
            raise UserError(f"{path} is empty: its list {name!r} has no entry, so nothing can be learnt from it.")
        _check_entries(path, name, entries, keys)
    extras = {name: value for name, value in content.items() if name not in _SECTIONS}
    return CocoDocument(Path(path), stamp, content["images"], content["annotations"], content["categories"], extras)


def enumerate_offenders(offenders: Sequence[object]) -> str:
    """Name the first three offenders and count the rest: ``'a', 'b', 'c' and 4 more``."""
    first = ", ".join(map(repr, offenders[:3]))
    return first if len(offenders) <= 3 else f"{first} and {len(offenders) - 3} more"


def enumerate_differences(lists: Mapping[str, Sequence[str]]) -> str:
    """Of two lists by their names what only one of them has: ``'a' only in train, 'b', 'c' only in val``, or ''."""
    common = set.intersection(*map(set, lists.values()))
    only = {place: [name for name in names if name not in common] for place, names in lists.items()}
    return ", ".join(f"{enumerate_offenders(names)} only in {place}" for place, names in only.items() if names)


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number."""
    # A comparison, not math.isfinite: JSON's integers may be too large for a float.
    is_real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_real and abs(value) <= sys.float_info.max


def is_box(value: object) -> bool:
    """Whether a JSON value has the form of a box (x, y, width, height)."""
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def _read_json(path: Path) -> object:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"the annotation file {path} does not exist.") from None
    except OSError as error:
        raise UserError(f"the annotation file {path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not JSON: byte {error.start:,} is no UTF-8 text, so copy or export the file again."
        ) from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        cut = not text.rstrip().endswith(("}", "]"))
        advice = "it ends in the middle of something, so copy it again" if cut else "export it again"
        raise UserError(
            f"{path} is not valid JSON ({error.msg}, line {error.lineno} column {error.colno},"
            f" character {error.pos:,} of {len(text):,}): {advice}."
        ) from error
    except (RecursionError, ValueError) as error:
        raise UserError(f"{path} is not an annotation file: {error}.") from error


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 64


def _is_length(value: object) -> bool:
    return is_number(value) and value > 0


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_flag(value: object) -> bool:
    return isinstance(value, int) and value in (0, 1)


_RULES = {
    _is_integer: "an integer of 64 bits",
    _is_length: "a number above 0",
    _is_name: "a text",
    _is_flag: "0 or 1",
    is_box: "a list of four finite numbers (x, y, width, height)",
    is_number: "a finite number",
}

_SECTIONS = {
    "images": {"id": _is_integer, "file_name": _is_name, "width": _is_length, "height": _is_length},
    # mmdet needs the area to train, pycocotools needs iscrowd to evaluate.
    "annotations": {
        "id": _is_integer,
        "image_id": _is_integer,
        "category_id": _is_integer,
        "bbox": is_box,
        "area": is_number,
        "iscrowd": _is_flag,
    },
    "categories": {"id": _is_integer, "name": _is_name},
}


_SECTIONS_TEXT = f"the lists {enumeration(map(repr, _SECTIONS))}"


def _check_entries(path: Path, section: str, entries: list[object], keys: Mapping) -> None:
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: entry {number} of {section!r} is {entry!r:.60} instead of an object.")
    for key, is_right in keys.items():
        missing = [number for number, entry in enumerate(entries) if key not in entry]
        if missing:
            advice = " (0 for an object on its own, 1 for a crowd)" if key == "iscrowd" else ""
            raise UserError(
                f"{path}: {len(missing):,} of {len(entries):,} entries of {section!r} lack the key {key!r},"
                f" the first of them at position {missing[0]}; add it to each{advice}."
            )
        wrong = [entry for entry in entries if not is_right(entry[key])]
        if wrong:
            examples = [f"{entry[key]!r:.60} (id {entry.get('id')!r:.20})" for entry in wrong[:3]]
            raise UserError(
                f"{path}: {len(wrong):,} of {len(entries):,} entries of {section!r} have a {key!r} that is"
                f" not {_RULES[is_right]}: {', '.join(examples)}."
            )
