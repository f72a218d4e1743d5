"""Parameters and MACs of the suite's models against published ones, counted from the code: a few minutes.

python docs/complexity.py             puts the tables into docs/complexity.md
python docs/complexity.py --check     exits with 1 where they are not there
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from claims import CORRECTED, OWN, TOLERANCE, Claim, claims, same_source, witnesses
from countings import MACS, PARAMETERS, SOURCE_WIDE, Subject
from marked import table, update_parts

from fvnet_mm.bench.model_complexity import DETECTION_SHAPE, SEGMENTATION_SHAPE, WIDE_SEGMENTATION_SHAPE

PAGE = Path(__file__).with_suffix(".md")
ROUNDING, EXPLAINED, NOT_EXPLAINED = "within 2 % of what rounds to", "counted", "not explained"
ERRATUM = "corrected by the authors since, to what is counted here"
EXCEPTIONS = 0.2
"""Share of a source's related numbers that a way to count may miss and still be the source's."""


def ours(claim: Claim) -> int:
    return claim.subject.counts[0 if claim.parameters else 1]


@cache
def _counted_otherwise(subject: Subject, parameters: bool, label: str) -> int | None:
    return (PARAMETERS if parameters else MACS)[label](subject)


def explanation(claim: Claim) -> str:
    """Why our count differs; '' where it does not differ by more than 2 %.

    Another way to count explains a difference if with it the number fits, and the related ones of the same source, too
    (but for a few, which are named): of many ways to count, one fits a single number by chance.
    """
    if abs(claim.miss(ours(claim))) <= TOLERANCE:
        return ""
    if claim.fits(ours(claim)):
        return f"{ROUNDING} {claim.published}"
    for source, place in CORRECTED.items():
        if claim.parameters and claim.sources == (source,):
            return f"{ERRATUM} ({place})"
    labels = PARAMETERS if claim.parameters else MACS
    counts = {label: _counted_otherwise(claim.subject, claim.parameters, label) for label in labels}
    nearest = sorted((abs(claim.miss(n)), label, n) for label, n in counts.items() if n is not None)
    candidates = [(label, count, *_related(claim, label)) for _, label, count in nearest if claim.fits(count)]
    for label, count, fitting, misfits in sorted(candidates, key=lambda candidate: len(candidate[-1])):
        if len(misfits) <= EXCEPTIONS * len(fitting + misfits):
            return f"{EXPLAINED} {label}: {_described(claim, count)}{_exceptions(', which', misfits)}"
    distance, label, count = nearest[0]
    if distance >= abs(claim.miss(ours(claim))):
        return f"{NOT_EXPLAINED}; no other way to count that was tried comes closer"
    misfits = _related(claim, label)[1] if claim.fits(count) else []
    return (
        f"{NOT_EXPLAINED}; closest is the count {label}: {_described(claim, count)}{_exceptions(', but that', misfits)}"
    )


def _related(claim: Claim, label: str) -> tuple[list[Claim], list[Claim]]:
    """The numbers that must fit if a source counted in a way, itself among them: those that do, and those that do not.

    They are those of the same family, or of all where the way is nothing of a family's, in models of the same kind.
    """
    fitting, misfits = [], []
    for other in (*claims(), *witnesses()):
        labels = PARAMETERS if other.parameters else MACS
        related = other.family == claim.family or label in SOURCE_WIDE
        same_kind = other.subject.framework == claim.subject.framework
        if label in labels and related and same_kind and same_source(other, claim):
            count = _counted_otherwise(other.subject, other.parameters, label)
            if count is not None:
                (fitting if other.fits(count) else misfits).append(other)
    return fitting, misfits


def _exceptions(link: str, misfits: list[Claim]) -> str:
    names = sorted({f"`{claim.subject.trunk}` ({_quantity(claim)})" for claim in misfits})
    return f"{link} does not fit {', '.join(names)} of this source" if names else ""


def _quantity(claim: Claim) -> str:
    return "parameters" if claim.parameters else "MACs"


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


def tables() -> str:
    """All that stands between the markers."""
    columns = own_columns()
    sections = {
        "FVNet": table(columns, "l" + "r" * (len(columns) - 1), map(own_row, OWN)),
        "Against published counts": f"{summary()}\n\n{table(COLUMNS, 'lllrrrll', map(row, claims()))}",
        "Other ways to count that were tried": ways(),
    }
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())


def summary() -> str:
    """How many of the published numbers ours meet."""
    reasons = [explanation(claim) for claim in claims()]
    rounded, explained, corrected, unexplained = (
        sum(reason.startswith(start) for reason in reasons) for start in (ROUNDING, EXPLAINED, ERRATUM, NOT_EXPLAINED)
    )
    return (
        f"Of {len(reasons)} published numbers ours meet {reasons.count('')} within 2 %, and {rounded} more within 2 % "
        f"of what rounds to them. {explained} were counted in another way, with which they are met. "
        f"{corrected} were corrected by their authors since. {unexplained} are not explained."
    )


def ways() -> str:
    """The list of other ways to count that were tried."""
    lines = [f"- parameters {label}" for label in PARAMETERS] + [f"- MACs {label}" for label in MACS]
    return "\n".join(lines)


def main() -> None:
    update_parts(__doc__, "python docs/complexity.py", lambda: {(PAGE, "complexity"): f"\n{tables()}\n"})


if __name__ == "__main__":
    main()
