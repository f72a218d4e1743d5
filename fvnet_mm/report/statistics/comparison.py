"""What a comparison of two models says, as data and as text."""

from __future__ import annotations

from dataclasses import dataclass

from fvnet_mm.report.statistics.resampling import Interval
from fvnet_mm.report.statistics.seeds import SeedTest, Verdict

_LISTED = 5  # classes that gain and that lose most


@dataclass(frozen=True)
class Difference:
    """One metric of two models, in percent.

    Attributes:
        name: Of the metric or the class.
        first: Mean over the runs of the first model, from its saved predictions; None where it is not defined.
        second: Of the second.
        difference: Second minus first, in points.
        interval: 95 %, of the paired bootstrap over images.
        seeds: Welch's test over seeds; None of a class, and where the metric is not defined.
        verdict: Of the second against the first.
        joint: 95 %, over images and seeds at once, which the verdict goes by; None where it goes by ``interval``.
    """

    name: str
    first: float | None
    second: float | None
    difference: float | None
    interval: Interval | None
    seeds: SeedTest | None
    verdict: Verdict
    joint: Interval | None = None


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images.

    Attributes:
        first: Name of the first model.
        second: Of the second.
        runs: Runs (seeds) of each.
        images: In the split.
        resamples: Of the bootstrap.
        seed: Of their drawing.
        metrics: All metrics, the task's main one first; AP_S, AP_M and AP_L are the sizes.
        per_class: Name of the metric that classes have ('AP', 'mask AP', 'IoU', 'top-1') -> each class.
        notes: What a reader must know, such as protocols that differ.
    """

    first: str
    second: str
    runs: tuple[int, int]
    images: int
    resamples: int
    seed: int
    metrics: tuple[Difference, ...]
    per_class: dict[str, tuple[Difference, ...]]
    notes: tuple[str, ...] = ()


def format_comparison(comparison: Comparison) -> str:
    """Write a comparison as plain text: a table of the metrics, the classes that differ most, and notes."""
    names = (comparison.first, comparison.second)
    seeds = any(entry.seeds is not None and entry.seeds.interval is not None for entry in comparison.metrics)
    over_seeds = f"  {'95 % over seeds':18}  {'p':7}  {'95 % over both':16}" if seeds else ""
    lines = [
        f"A  {names[0]} ({_runs(comparison.runs[0])})",
        f"B  {names[1]} ({_runs(comparison.runs[1])})",
        f"{comparison.images:,} images, {comparison.resamples:,} paired resamples of them",
        "",
        f"{'':14}{'A':>7}{'B':>8}{'B - A':>9}  {'95 % over images':18}{over_seeds}  verdict on B",
        *(_row(entry, seeds) for entry in comparison.metrics),
    ]
    lines += ["The verdict goes by the interval over both, images and seeds, where there is one."] if seeds else []
    for name, classes in comparison.per_class.items():
        lines += ["", *_classes(name, classes)]
    reasons = {entry.seeds.reason for entry in comparison.metrics if entry.seeds is not None} - {""}
    notes = [*(f"no interval over seeds: {reason}" for reason in sorted(reasons)), *comparison.notes]
    lines += ["", *(f"Note: {note}." for note in notes)] if notes else []
    return "\n".join(line.rstrip() for line in lines)


def _classes(metric: str, classes: tuple[Difference, ...]) -> list[str]:
    judged = [entry for entry in classes if entry.interval is not None]
    outside = [entry for entry in judged if entry.verdict != "within noise"]
    lines = [
        f"{metric} per class, over images: {len(outside)} of {len(judged)} outside the noise, where chance alone gives"
        f" about {0.05 * len(judged):.2g}"
    ]
    known = sorted((entry for entry in classes if entry.difference is not None), key=lambda entry: -entry.difference)
    gains = [entry for entry in known if entry.difference > 0][:_LISTED]
    losses = [entry for entry in reversed(known) if entry.difference < 0][:_LISTED]
    for title, entries in (("largest gains", gains), ("largest losses", losses)):
        if entries:
            lines += [title, *map(_row, entries)]
    return lines


def _row(entry: Difference, seeds: bool = False) -> str:
    line = (
        f"{entry.name:14.14}{_number(entry.first):>7}{_number(entry.second):>8}{_number(entry.difference, '+'):>9}"
        f"  {_interval(entry.interval):18}"
    )
    if seeds:
        interval, p_value = (entry.seeds.interval, entry.seeds.p_value) if entry.seeds else (None, None)
        p_text = "-" if p_value is None else f"{p_value:.2g}"
        line += f"  {_interval(interval):18}  {p_text:7}  {_interval(entry.joint):16}"
    few = entry.difference is not None and entry.interval is None
    return f"{line}  {'in too few images' if few else entry.verdict}"


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.low:+.2f} to {interval.high:+.2f}"


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.2f}"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
