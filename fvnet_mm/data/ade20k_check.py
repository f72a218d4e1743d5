"""Checks of a split in ADE20K's layout before a training starts: its label maps' values, and every file's soundness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fvnet_mm.data.ade20k_layout import IGNORED, Ade20kSplit
from fvnet_mm.data.coco_document import enumerate_offenders
from fvnet_mm.data.image_check import (
    EXCHANGED,
    LABEL_MODES,
    BadImage,
    ImageFacts,
    LabelFacts,
    decode_images,
    decode_labels,
)
from fvnet_mm.data.listing import list_line
from fvnet_mm.errors import UserError
from fvnet_mm.files import write_text


def check_pairs(split: Ade20kSplit, classes: Sequence[str]) -> tuple[float, tuple[str, ...]]:
    """Check that the values of a split's label maps are classes, and count them.

    Label maps that can't be decoded are left out; :func:`find_bad_pairs` names them. What was found is remembered
    (see :func:`fvnet_mm.data.image_check.decode_labels`).

    Args:
        split: the label maps.
        classes: their names in the order of the labels, from the split's ``first_label`` on.

    Returns:
        The share of all pixels that have a class (the others are 255, ignored, or, where classes begin at 1, 0, not
        labelled), and the classes without a pixel, in the order of their labels.

    Raises:
        UserError: label maps are colour-coded or of another depth than 8 bits, have values that are no class, or
            none of them has a labelled pixel.
    """
    decoded = decode_labels(split.label_dir, split.label_names)
    facts = {name: fact for name, fact in decoded.items() if fact.fault is None}
    if not facts:
        raise UserError(
            f"none of the {split.image_count:,} label maps in {split.label_dir} can be read; copy them again."
        )
    _refuse_other_pixels(split, facts)
    _refuse_unknown_values(split, facts, classes)
    totals: Counter[int] = Counter()
    for fact in facts.values():
        totals.update(dict(zip(fact.values, fact.pixels, strict=True)))
    labelled = sum(count for value, count in totals.items() if split.first_label <= value < IGNORED)
    if not labelled:
        raise UserError(
            f"no pixel of the {len(facts):,} label maps in {split.label_dir} has a class: all are"
            f" {_without_class(split)}; classes are the values from {split.first_label} on, in the order of the class"
            " list."
        )
    absent = tuple(name for label, name in enumerate(classes, split.first_label) if not totals[label])
    return labelled / totals.total(), absent


def find_bad_pairs(split: Ade20kSplit, progress: Callable[[int, int], None] | None = None) -> list[BadImage]:
    """Decode every image and label map of a split and name the stems of pairs that fail or are not equally large.

    Files are decoded, and what was found is remembered, by :mod:`fvnet_mm.data.image_check`: the label maps, then the
    images.
    """
    labels = decode_labels(split.label_dir, split.label_names, progress)
    images = decode_images(split.image_dir, split.image_names, progress)
    bad = []
    for stem, image_name, label_name in zip(split.stems, split.image_names, split.label_names, strict=True):
        reason = _reason(images.get(image_name), labels.get(label_name))
        if reason:
            bad.append(BadImage(stem, reason))
    return bad


def without_pairs(split: Ade20kSplit, bad: Sequence[BadImage], list_file: Path) -> Ade20kSplit:
    """Write a list of a split's pairs without some, in the form of mmseg's ``ann_file``; returns the split with it.

    Raises:
        UserError: no pair would be left, or a stem cannot be listed.
    """
    names = {pair.name for pair in bad}
    stems = tuple(stem for stem in split.stems if stem not in names)
    if not stems:
        raise UserError(
            f"without its {len(names):,} bad images and label maps ({enumerate_offenders([pair.name for pair in bad])})"
            f" {split.image_dir} has none left; mend them."
        )
    write_text(list_file, "".join(list_line(stem, split.image_dir) for stem in stems))
    return replace(split, stems=stems, list_file=Path(list_file))


def _refuse_other_pixels(split: Ade20kSplit, facts: dict[str, LabelFacts]) -> None:
    """Refuse label maps that mmseg would read as colours, or of which it would drop the upper byte."""
    others = {name: fact.mode for name, fact in facts.items() if fact.mode not in LABEL_MODES}
    if others:
        modes = ", ".join(sorted(set(others.values())))
        kind = "colour-coded" if modes in ("RGB", "RGBA") else f"not of 8 bits a pixel (Pillow's mode {modes})"
        raise UserError(
            f"{len(others):,} of {len(facts):,} label maps in {split.label_dir} are {kind}"
            f" ({enumerate_offenders(list(others))}); convert them to one 8-bit channel that holds each pixel's label,"
            " 0 where it is not labelled."
        )


def _refuse_unknown_values(split: Ade20kSplit, facts: dict[str, LabelFacts], classes: Sequence[str]) -> None:
    last = split.first_label + len(classes) - 1
    unknown = {name: high for name, fact in facts.items() if (high := [v for v in fact.values if last < v < IGNORED])}
    if unknown:
        examples = "; ".join(f"{name}: {', '.join(map(str, high[:3]))}" for name, high in list(unknown.items())[:3])
        raise UserError(
            f"{len(unknown):,} of {len(facts):,} label maps in {split.label_dir} have values that are no class"
            f" ({examples}{' ...' if len(unknown) > 3 else ''}): {len(classes)} classes have the labels"
            f" {split.first_label} to {last}, beside {_without_class(split)}; correct the maps or the class list."
        )


def _without_class(split: Ade20kSplit) -> str:
    """The values of pixels without a class, in words."""
    ignored = f"{IGNORED} (ignored)"
    return f"0 (not labelled) or {ignored}" if split.first_label else ignored


def _reason(image: ImageFacts | None, label: LabelFacts | None) -> str | None:
    """Why a pair can't be used; None if it can."""
    for what, facts in (("image", image), ("label map", label)):
        if facts is None:
            return f"{what}: there is no such file"
        if facts.fault is not None:
            return f"{what}: {facts.fault}"
    if (image.width, image.height) != (label.width, label.height):
        hint = EXCHANGED if (image.height, image.width) == (label.width, label.height) else ""
        return f"the image is {image.width}x{image.height}, its label map {label.width}x{label.height}{hint}"
    return None
