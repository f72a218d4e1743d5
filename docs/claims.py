"""What is published of the sizes of the suite's models: each number once, with what it is of and who says so."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from countings import CLASSIFICATION, LEAVES, TRUNK, Subject

from fvnet_mm.bench.model_complexity import (
    CLASSIFICATION_SHAPE,
    DETECTION_SHAPE,
    SEGMENTATION_SHAPE,
    WIDE_SEGMENTATION_SHAPE,
)
from fvnet_mm.places import CONFIGS, DESCRIPTIONS
from fvnet_mm.report.leaderboard.names import PUBLISHED_AS
from fvnet_mm.report.published import MACS_AT_512, PublishedResult, read_published

TOLERANCE = 0.02
OWN = ("fvnet_n", "fvnet_t", "fvnet_s", "fvnet_m", "fvnet_l")
WITNESSES = {
    "timm:fastvit_t12": ("FastViT", ("T12",)),
    "timm:mobilenetv4_hybrid_medium": ("MobileNetV4", ("Hybrid-M",)),
}
"""Models of timm that are no trunks of the suite and tell by their published numbers how a source counted."""

CORRECTED = {
    "PVTv2 arXiv 2106.13797 ImageNet table": "github.com/whai362/PVT: issue 60, classification/README.md",
}
"""Sources whose parameters their authors called wrong and corrected, and where they did."""

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
        return (PUBLISHED_AS | WITNESSES)[self.subject.trunk][0]

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
    return _claims_of(trunks())


@cache
def witnesses() -> tuple[Claim, ...]:
    """What is published of the :data:`WITNESSES`."""
    return _claims_of(WITNESSES)


def same_source(one: Claim, other: Claim) -> bool:
    """Whether two numbers are from the same paper, in whichever of its tables, or page."""
    first, second = ({re.split(r" Tables? ", source)[0] for source in claim.sources} for claim in (one, other))
    return bool(first & second)


def _claims_of(names: Iterable[str]) -> tuple[Claim, ...]:
    merged: dict[tuple[Subject, bool, Decimal], list[str]] = {}
    for trunk in names:
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
    family, variants = (PUBLISHED_AS | WITNESSES)[trunk]
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
