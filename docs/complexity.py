"""Parameters and MACs of the suite's models against published ones, counted from the code.

    python docs/complexity.py                     prints the tables
    python docs/complexity.py --write FILE        puts them between the markers of a file
    python docs/complexity.py --check FILE        exits with 1 where they are not what the code says

A few minutes. The markers are the lines ``<!-- complexity:begin -->`` and ``<!-- complexity:end -->``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

from countings import CLASSIFICATION, LEAVES, MACS, PARAMETERS, TRUNK, Subject

from fvnet_mm.bench.model_complexity import (
    CLASSIFICATION_SHAPE,
    DETECTION_SHAPE,
    SEGMENTATION_SHAPE,
    WIDE_SEGMENTATION_SHAPE,
)
from fvnet_mm.engine.trunk import CONFIGS, DESCRIPTIONS
from fvnet_mm.files import replacing
from fvnet_mm.report.published import MACS_AT_512, PublishedResult, read_published

BEGIN, END = "<!-- complexity:begin -->", "<!-- complexity:end -->"
TOLERANCE = 0.02
ROUNDING, EXPLAINED, NOT_EXPLAINED = "within 2 % of what rounds to", "counted", "not explained"
OWN = ("fvnet_t", "fvnet_s", "fvnet_m", "fvnet_l")
PUBLISHED_AS = {
    "edgenext_small": ("EdgeNeXt", ("small", "small_usi")),
    "efficientformer_l1": ("EfficientFormer", ("L1",)),
    "efficientformer_l3": ("EfficientFormer", ("L3",)),
    "efficientformer_l7": ("EfficientFormer", ("L7",)),
    "efficientformerv2_l": ("EfficientFormerV2", ("L",)),
    "efficientformerv2_s0": ("EfficientFormerV2", ("S0",)),
    "efficientformerv2_s1": ("EfficientFormerV2", ("S1",)),
    "efficientformerv2_s2": ("EfficientFormerV2", ("S2",)),
    "fastvit_sa12": ("FastViT", ("SA12",)),
    "fastvit_sa24": ("FastViT", ("SA24",)),
    "fastvit_t8": ("FastViT", ("T8",)),
    "mambaout_femto": ("MambaOut", ("Femto",)),
    "mambaout_kobe": ("MambaOut", ("Kobe",)),
    "mobilenet_v2": ("MobileNetV2", ("x1.0", "1.00", "(variant not stated)")),
    "mobilenet_v3_large": ("MobileNetV3", ("Large x1.0", "large", "(variant not stated)")),
    "mobilenetv4_conv_medium": ("MobileNetV4", ("Conv-M",)),
    "mobilenetv4_conv_small": ("MobileNetV4", ("Conv-S",)),
    "mobileone_s1": ("MobileOne", ("S1",)),
    "poolformer_s12": ("PoolFormer", ("S12",)),
    "poolformer_s24": ("PoolFormer", ("S24",)),
    "pvt_v2_b0": ("PVTv2", ("B0",)),
    "pvt_v2_b1": ("PVTv2", ("B1",)),
    "repvit_m0_9": ("RepViT", ("M0.9",)),
    "repvit_m1_1": ("RepViT", ("M1.1",)),
    "repvit_m1_5": ("RepViT", ("M1.5",)),
    "repvit_m2_3": ("RepViT", ("M2.3",)),
    "resnet18": ("ResNet", ("18",)),
    "resnet50": ("ResNet", ("50",)),
    "starnet_s1": ("StarNet", ("S1",)),
    "starnet_s4": ("StarNet", ("S4",)),
    "swiftformer_l1": ("SwiftFormer", ("L1",)),
    "swiftformer_l3": ("SwiftFormer", ("L3",)),
    "swiftformer_s": ("SwiftFormer", ("S",)),
    "swiftformer_xs": ("SwiftFormer", ("XS",)),
}
"""The family and the variants under which published tables have a trunk."""

TIMM_AS = {"mobilenet_v2": "mobilenetv2_100", "mobilenet_v3_large": "mobilenetv3_large_100"}
"""Trunks under another name in timm's table; the others have their own."""


@dataclass(frozen=True)
class Claim:
    """One published number, and what it is of.

    Attributes:
        subject: What is counted.
        parameters: Whether it is parameters; else MACs.
        published: As printed, in millions or billions.
        sources: Who says so.
    """

    subject: Subject
    parameters: bool
    published: Decimal
    sources: tuple[str, ...]

    @property
    def family(self) -> str:
        return PUBLISHED_AS[self.subject.trunk][0]

    def miss(self, count: int) -> float:
        """Relative difference of a count from what is published."""
        return self.scaled(count) / float(self.published) - 1

    def scaled(self, count: int) -> float:
        return count / (1e6 if self.parameters else 1e9)

    def fits(self, count: int) -> bool:
        """Whether a count is within 2 % of something that rounds to the published number."""
        half_a_digit = float(Decimal(5).scaleb(self.published.as_tuple().exponent - 1))
        distance = max(0.0, abs(self.scaled(count) - float(self.published)) - half_a_digit)
        return distance <= TOLERANCE * float(self.published)


def trunks() -> list[str]:
    """Names of all backbone descriptions but FVNet's own."""
    return sorted(path.stem for path in (CONFIGS / DESCRIPTIONS).glob("*.py") if path.stem not in OWN)


@cache
def claims() -> tuple[Claim, ...]:
    """What is published of the suite's trunks and models with them, equal numbers in one."""
    merged: dict[tuple[Subject, bool, Decimal], list[str]] = {}
    for trunk in trunks():
        for result in read_published():
            subject = _subject(trunk, result)
            if subject is None:
                continue
            for parameters, published in ((True, result.params_m), (False, result.macs_g)):
                if subject.framework == TRUNK and parameters:
                    continue  # said of the classification network
                if published is not None:
                    key = (Subject(trunk, subject.framework, _shape(subject, parameters)), parameters, published)
                    sources = merged.setdefault(key, [])
                    sources += [result.source] * (result.source not in sources)
    found = [Claim(*key, tuple(sources)) for key, sources in merged.items()]
    frameworks = (CLASSIFICATION, TRUNK, *LEAVES)
    return tuple(
        sorted(found, key=lambda c: (c.subject.trunk, frameworks.index(c.subject.framework), not c.parameters))
    )


def _shape(subject: Subject, parameters: bool) -> tuple[int, int]:
    """Parameters do not depend on the image: the customary one, so that equal statements meet."""
    return CLASSIFICATION_SHAPE if parameters and subject.framework == CLASSIFICATION else subject.shape


def _subject(trunk: str, result: PublishedResult) -> Subject | None:
    """What a published result is of, if it is of this trunk."""
    family, variants = PUBLISHED_AS[trunk]
    if result.backbone == f"timm:{TIMM_AS.get(trunk, trunk)}":
        return Subject(trunk, CLASSIFICATION, CLASSIFICATION_SHAPE)
    if result.backbone != family or result.variant not in variants:
        return None
    if result.params_scope == MACS_AT_512:
        return Subject(trunk, TRUNK, SEGMENTATION_SHAPE)
    if result.params_scope == "backbone":
        size = int(result.input_size) if result.input_size.isdigit() else CLASSIFICATION_SHAPE[0]
        return Subject(trunk, CLASSIFICATION, (size, size))
    if result.params_scope == "detector":
        return Subject(trunk, result.framework, DETECTION_SHAPE)
    if result.params_scope == "segmentor":
        wide = result.framework == "UperNet"
        return Subject(trunk, result.framework, WIDE_SEGMENTATION_SHAPE if wide else SEGMENTATION_SHAPE)
    return None


def ours(claim: Claim) -> int:
    return claim.subject.counts[0 if claim.parameters else 1]


@cache
def _counted_otherwise(subject: Subject, parameters: bool, label: str) -> int | None:
    return (PARAMETERS if parameters else MACS)[label](subject)


def explanation(claim: Claim) -> str:
    """Why our count differs; '' where it does not differ by more than 2 %.

    Another way to count explains a difference if with it the number fits, and those of the same family, model,
    quantity and source, too: of many ways to count, one fits a single number by chance.
    """
    if abs(claim.miss(ours(claim))) <= TOLERANCE:
        return ""
    if claim.fits(ours(claim)):
        return f"{ROUNDING} {claim.published}"
    labels = PARAMETERS if claim.parameters else MACS
    counts = {label: _counted_otherwise(claim.subject, claim.parameters, label) for label in labels}
    nearest = sorted((abs(claim.miss(n)), label, n) for label, n in counts.items() if n is not None)
    for _, label, count in nearest:
        if claim.fits(count) and not _misfits(claim, label):
            return f"{EXPLAINED} {label}: {_described(claim, count)}"
    distance, label, count = nearest[0]
    if distance >= abs(claim.miss(ours(claim))):
        return f"{NOT_EXPLAINED}; no other way to count that was tried comes closer"
    text = f"{NOT_EXPLAINED}; closest is the count {label}: {_described(claim, count)}"
    others = _misfits(claim, label) if claim.fits(count) else []
    return text + f", but that does not fit {', '.join(f'`{name}`' for name in others)} of this source" * bool(others)


def _misfits(claim: Claim, label: str) -> list[str]:
    """The trunks of the same family, model, quantity and source whose numbers a way to count does not give."""
    relatives = (
        other
        for other in claims()
        if (other.family, other.parameters) == (claim.family, claim.parameters)
        and other.subject.framework == claim.subject.framework
        and set(other.sources) & set(claim.sources)
    )
    counts = ((other, _counted_otherwise(other.subject, other.parameters, label)) for other in relatives)
    return sorted({other.subject.trunk for other, count in counts if count is not None and not other.fits(count)})


def _described(claim: Claim, count: int) -> str:
    return f"{_number(claim, count)} ({_percent(claim.miss(count))})"


def _number(claim: Claim, count: int) -> str:
    """A count with a digit more than the published number has."""
    return f"{claim.scaled(count):.{max(0, -claim.published.as_tuple().exponent) + 1}f}"


def _percent(ratio: float) -> str:
    return f"{ratio:+.1%}".replace("-0.0%", "+0.0%").replace("%", " %")


def row(claim: Claim) -> tuple[str, ...]:
    """One line of the table, in the order of its columns."""
    height, width = claim.subject.shape
    quantity = "parameters (M)" if claim.parameters else f"MACs (G) at {width}x{height}"
    return (
        f"`{claim.subject.trunk}`",
        claim.subject.framework,
        quantity,
        _number(claim, ours(claim)),
        str(claim.published),
        _percent(claim.miss(ours(claim))),
        explanation(claim),
        "; ".join(claim.sources),
    )


COLUMNS = ("Trunk", "Model", "Quantity", "Ours", "Published", "Difference", "Differences above 2 %", "Source")
OWN_SHAPES = {
    "RetinaNet": (DETECTION_SHAPE,),
    "Mask R-CNN": (DETECTION_SHAPE,),
    "Semantic FPN": (SEGMENTATION_SHAPE,),
    "UperNet": (SEGMENTATION_SHAPE, WIDE_SEGMENTATION_SHAPE),
}


def own_row(trunk: str) -> tuple[str, ...]:
    """Parameters and MACs of the four frameworks with a trunk."""
    cells = [f"`{trunk}`"]
    for framework, shapes in OWN_SHAPES.items():
        counts = [Subject(trunk, framework, shape).counts for shape in shapes]
        cells += [f"{counts[0][0] / 1e6:.2f}", *(f"{macs / 1e9:.1f}" for _, macs in counts)]
    return tuple(cells)


def own_columns() -> tuple[str, ...]:
    columns = ["Trunk"]
    for framework, shapes in OWN_SHAPES.items():
        columns += [f"{framework} (M)", *(f"MACs at {width}x{height} (G)" for height, width in shapes)]
    return tuple(columns)


def markdown(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]], numbers: Iterable[int]) -> str:
    align = ["---:" if i in set(numbers) else "---" for i in range(len(columns))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, align, *rows))


def tables() -> str:
    """All that stands between the markers."""
    with_fvnet = markdown(own_columns(), map(own_row, OWN), range(1, len(own_columns())))
    sections = {
        "FVNet": with_fvnet,
        "Against published counts": f"{summary()}\n\n{comparison()}",
        "Other ways to count that were tried": ways(),
    }
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())


def comparison() -> str:
    return markdown(COLUMNS, map(row, claims()), (3, 4, 5))


def summary() -> str:
    """How many of the published numbers ours meet."""
    reasons = [explanation(claim) for claim in claims()]
    rounded, explained, unexplained = (
        sum(reason.startswith(start) for reason in reasons) for start in (ROUNDING, EXPLAINED, NOT_EXPLAINED)
    )
    return (
        f"Of {len(reasons)} published numbers ours meet {reasons.count('')} within 2 %, and {rounded} more within 2 % "
        f"of what rounds to them. {explained} were counted in another way, with which they are met. "
        f"{unexplained} are not explained."
    )


def ways() -> str:
    """The list of other ways to count that were tried."""
    lines = [f"- parameters {label}" for label in PARAMETERS] + [f"- MACs {label}" for label in MACS]
    return "\n".join(lines)


def with_tables(text: str, new: str) -> str:
    """``text`` with what is between its markers replaced.

    Raises:
        ValueError: There is not exactly one pair of markers.
    """
    replaced, count = re.subn(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n\n{new}\n\n{END}", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"has {count} pairs of markers {BEGIN} ... {END} where one is needed")
    return replaced


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", type=Path, metavar="FILE", help="bring this file up to date")
    action.add_argument("--check", type=Path, metavar="FILE", help="exit with 1 where this file is stale")
    arguments = parser.parse_args()
    path = arguments.write or arguments.check
    if path is None:
        print(tables())
        return
    old = path.read_text(encoding="utf-8")
    try:
        current = with_tables(old, tables())
    except ValueError as error:
        sys.exit(f"error: {path} {error}.")
    if current != old and arguments.check:
        sys.exit(f"error: the tables in {path} are stale; run: python docs/complexity.py --write {path}")
    with replacing(path) as temporary:
        temporary.write_text(current, encoding="utf-8")


if __name__ == "__main__":
    main()
