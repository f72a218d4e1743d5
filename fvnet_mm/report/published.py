"""Published results of small backbones: what papers, their repositories and logs, and third parties state.

``published.csv`` holds one row for each number of accuracy. Its columns are the fields of :class:`PublishedResult`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from pathlib import Path

from fvnet_mm.errors import UserError

PUBLISHED = Path(__file__).with_name("published.csv")

METRICS = {
    ("imagenet", "classification"): ("top1",),
    ("coco_det", "RetinaNet"): tuple(f"bbox_AP{which}" for which in ("", "50", "75", "s", "m", "l")),
    ("coco_det", "Mask R-CNN"): tuple(f"bbox_AP{which}" for which in ("", "50", "75", "s", "m", "l")),
    ("coco_inst", "Mask R-CNN"): tuple(f"mask_AP{which}" for which in ("", "50", "75", "s", "m", "l")),
    ("ade20k", "Semantic FPN"): ("mIoU",),
    ("ade20k", "UperNet"): ("mIoU", "mIoU_ms"),
}
"""The metrics of each task and framework; ``mIoU_ms`` is tested at several scales, flipped."""

MACS_AT_512 = "backbone (MACs at 512x512)"
SCOPES = ("", "backbone", "detector", "segmentor", MACS_AT_512)
SOURCE_KINDS = (
    "paper",
    "paper abstract",
    "paper repo",
    "author log",
    "baseline in paper",
    "comparison row in another paper",
    "third-party evaluation",
    "third-party reproduction",
)


@dataclass(frozen=True)
class PublishedResult:
    """One number that somebody published, with what was said beside it. Empty text and None: not stated.

    Numbers are decimal: 0.40 stays two digits behind the point, which says how far it was rounded.

    Attributes:
        backbone: Family, such as ``RepViT``; ``timm:NAME`` for an evaluation of timm's.
        variant: Member of the family, such as ``M1.1``; of timm's evaluations the tag of the weights.
        task: ``imagenet``, ``coco_det`` (boxes), ``coco_inst`` (masks) or ``ade20k``.
        framework: ``classification``, ``RetinaNet``, ``Mask R-CNN``, ``Semantic FPN`` or ``UperNet``.
        schedule: ``1x``, ``40k`` (iterations), ``300e`` (epochs of pretraining).
        input_size: ``224`` or, width first, ``1333x800``; pixels.
        params_m: Parameters in millions, of what ``params_scope`` says.
        macs_g: Multiply-accumulate operations in billions. Most of these sources print them under 'FLOPs', and
            all count a multiply-add as one.
        metric: One of :data:`METRICS`.
        value: In percent.
        source: Paper with its table, or repository with the file.
        params_scope: What parameters and MACs are of: one of :data:`SCOPES`. ``backbone`` means the network that
            was trained on ImageNet, with its classifier; :data:`MACS_AT_512` the same, its MACs at 512x512.
        source_kind: One of :data:`SOURCE_KINDS`.
        note: What sets the number apart from its neighbours.
    """

    backbone: str
    variant: str
    task: str
    framework: str
    schedule: str
    input_size: str
    params_m: Decimal | None
    macs_g: Decimal | None
    metric: str
    value: Decimal
    source: str
    params_scope: str
    source_kind: str
    note: str


COLUMNS = tuple(field.name for field in fields(PublishedResult))


def read_published(path: Path = PUBLISHED) -> list[PublishedResult]:
    """Reads and checks a table of published results, by default the suite's own.

    Raises:
        UserError: The file is missing, or a row is not what it should be; with the number of its line.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = tuple(next(reader, ()))
            if header != COLUMNS:
                raise UserError(
                    f"{path}, line 1: the columns are {', '.join(header)} and must be {', '.join(COLUMNS)}."
                )
            return [_result(row, f"{path}, line {reader.line_num}") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"published results cannot be read from {path}: {error}") from error


def _result(row: list[str], where: str) -> PublishedResult:
    if len(row) != len(COLUMNS):
        raise UserError(f"{where}: there are {len(row)} columns where {len(COLUMNS)} are needed.")
    text = dict(zip(COLUMNS, row, strict=True))
    for name in ("backbone", "variant", "source"):
        if not text[name].strip():
            raise UserError(f"{where}: {name} is empty.")
    _one_of(text["framework"], sorted({framework for _, framework in METRICS}), f"{where}: framework")
    _one_of(text["task"], [task for task, framework in METRICS if framework == text["framework"]], f"{where}: task")
    _one_of(text["metric"], METRICS[text["task"], text["framework"]], f"{where}: metric")
    _one_of(text["params_scope"], SCOPES, f"{where}: params_scope")
    _one_of(text["source_kind"], SOURCE_KINDS, f"{where}: source_kind")
    numbers = {name: _number(text[name], f"{where}: {name}") for name in ("params_m", "macs_g", "value")}
    if numbers["value"] is None or numbers["value"] > 100:
        raise UserError(f"{where}: value is {text['value']!r} and must be a number of percent.")
    stated = numbers["params_m"] is not None or numbers["macs_g"] is not None
    if stated != bool(text["params_scope"]):
        raise UserError(f"{where}: params_scope must say what parameters and MACs are of, where a row has them.")
    return PublishedResult(**(text | numbers))


def _one_of(value: str, choices: tuple[str, ...] | list[str], where: str) -> None:
    if value not in choices:
        raise UserError(f"{where} is {value!r} and must be one of {', '.join(repr(choice) for choice in choices)}.")


def _number(text: str, where: str) -> Decimal | None:
    if not text:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("nan")
    if not (number.is_finite() and number > 0):
        raise UserError(f"{where} is {text!r} and must be a number above 0, or empty.")
    return number
