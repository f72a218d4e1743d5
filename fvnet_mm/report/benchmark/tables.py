"""A benchmark on the terminal: its conditions, sizes of the models, and a table for every case."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console

from fvnet_mm.records.benchmark import BenchmarkRecord, Clock, Counted, Measurement, Ratio
from fvnet_mm.terminal_tables import new_table, show

DISAGREEMENT_LIMIT = 0.05
"""Two counters of MACs that differ by more are flagged."""

WIDE_INTERVAL = 0.05
"""A ratio whose interval reaches further to a side is flagged."""

_MOST_SKIPPED = 4
_LEAST_SHARE = 0.005

TITLES = {
    "trunk": "trunk",
    "model": "trunk, neck and heads",
    "predict": "whole predict, from bytes to results",
}


def show_benchmark(record: BenchmarkRecord, console: Console | None = None) -> None:
    """Prints a record: tables on a terminal are ruled, in a file or pipe plain columns."""
    console = console or Console(highlight=False, markup=False)
    conditions = record.conditions
    console.print(f"conditions {conditions.fingerprint}: {conditions.summary}", soft_wrap=True)
    bandwidth = f"{record.bandwidth / 1e9:.1f} GB/s when copying"
    console.print(f"memory {bandwidth}; ratios are to {record.baseline}, above 1 is faster\n", soft_wrap=True)
    _print_table(console, ("model", *_parts(record), "parameters (M)", "fused"), _size_rows(record))
    counts = [(model.name, *_count_cells(counted)) for model in record.models for counted in model.counted]
    _print_table(console, _COUNT_HEADS, counts)
    for case in record.cases:
        height, width = case.size
        kind = " training step" if conditions.training else ""
        console.print(f"{TITLES[case.what]}{kind}, {height}x{width}, batch {case.batch}", style="bold", soft_wrap=True)
        _print_table(console, _CASE_HEADS, [_case_cells(record, entry) for entry in record.of_case(case)])
        clocks = record.of_case(case)[0]
        console.print(f"clock {_clock(clocks.before)} before, {_clock(clocks.after)} after\n", soft_wrap=True)
    for warning in (*record.notes, *warnings_of(record)):
        console.print(f"note: {warning}", soft_wrap=True)


def warnings_of(record: BenchmarkRecord) -> list[str]:
    """What a reader must know before quoting a number."""
    warnings = []
    for model in record.models:
        for counted in model.counted:
            place = f"{model.name}, {counted.what} at {counted.size[0]}x{counted.size[1]}"
            if counted.other_failed is not None:
                warnings.append(f"{place}: the other counter of MACs fails ({counted.other_failed}).")
            elif counted.disagreement is not None and counted.disagreement > DISAGREEMENT_LIMIT:
                warnings.append(f"{place}: the counters of MACs differ by {counted.disagreement:.1%}.")
    for entry in record.measurements:
        place = f"{entry.model}, {entry.case}"
        warnings += [f"{place}: unsteady, {reason}." for reason in entry.times.unsteady]
        half = half_width(entry.ratio)
        if half is not None and half > WIDE_INTERVAL:
            warnings.append(f"{place}: the ratio's interval reaches {half:.0%} to a side; more --rounds narrow it.")
        if entry.before.throttled or entry.after.throttled:
            reasons = sorted({*(entry.before.throttled or ()), *(entry.after.throttled or ())})
            warnings.append(f"{place}: the device was throttled ({', '.join(reasons)}).")
    return warnings


def half_width(ratio: Ratio | None) -> float | None:
    """How far a ratio's interval reaches to its longer side, as a share of the ratio; None without an interval."""
    if ratio is None or ratio.low is None or ratio.high is None:
        return None
    return max(ratio.high / ratio.value, ratio.value / ratio.low) - 1


_COUNT_HEADS = (
    "model",
    "counted",
    "MACs (G)",
    "other counter",
    "FTFU (M)",
    "MB moved",
    "not counted, share of values written",
)

_CASE_HEADS = (
    "model",
    "ratio [95 %]",
    "p50 (ms)",
    "p90",
    "p99",
    "mean",
    "n",
    "images/s",
    "floor (ms)",
    "floor/p50",
    "memory (MB)",
)


def _case_cells(record: BenchmarkRecord, entry: Measurement) -> tuple[str, ...]:
    times = entry.times
    floor = share = ""
    if (least := record.floor_ms(entry)) is not None:
        floor, share = _digits(least), f"{least / times.p50_ms:.0%}"
    ratio = entry.ratio
    if ratio is None:
        cell = ""
    elif entry.model == record.baseline:
        cell = "1 (baseline)"
    else:
        cell = f"{ratio.value:.3f}" + (f" [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio.low is not None else "")
    return (
        entry.model,
        cell,
        *(_digits(value) for value in (times.p50_ms, times.p90_ms, times.p99_ms, times.mean_ms)),
        str(times.n),
        _digits(entry.throughput),
        floor,
        share,
        "" if entry.peak_memory is None else f"{entry.peak_memory / 1e6:.0f}",
    )


def _parts(record: BenchmarkRecord) -> list[str]:
    return list(dict.fromkeys(part for model in record.models for part in model.parameters))


def _size_rows(record: BenchmarkRecord) -> list[tuple[str, ...]]:
    rows = []
    for model in record.models:
        parts = [model.parameters.get(part) for part in _parts(record)]
        cells = ["" if count is None else f"{count / 1e6:.2f}" for count in parts]
        rows.append((model.name, *cells, f"{sum(model.parameters.values()) / 1e6:.2f}", model.fused))
    return rows


def _count_cells(counted: Counted) -> tuple[str, ...]:
    skipped = [part for part in counted.skipped if part.share >= _LEAST_SHARE]
    named = ", ".join(f"{part.operator} {part.share:.0%}" for part in skipped[:_MOST_SKIPPED])
    rest = sum(part.share for part in counted.skipped) - sum(part.share for part in skipped[:_MOST_SKIPPED])
    return (
        f"{counted.what} {counted.size[0]}x{counted.size[1]}",
        f"{counted.total_macs / 1e9:.3f}",
        "fails" if counted.other_macs is None else f"{counted.other_macs / 1e9:.3f}",
        f"{counted.ftfu_operations / 1e6:.1f}" if counted.ftfu_operations else "",
        f"{(counted.weight_bytes + counted.activation_bytes) / 1e6:.1f}",
        f"{named}, others {rest:.0%}" if rest >= _LEAST_SHARE else named,
    )


def _print_table(console: Console, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns that are all empty are left out."""
    rows = list(rows)
    kept = [index for index in range(len(heads)) if any(row[index] for row in rows)]
    numbers = [head for head in heads[1:] if not head.startswith(("fused", "counted", "not counted"))]
    table = new_table(*(heads[index] for index in kept), right=numbers, console=console)
    for row in rows:
        table.add_row(*(row[index] for index in kept))
    show(table, console)
    console.print()


def _clock(clock: Clock) -> str:
    return "unknown" if clock.mhz is None else f"{clock.mhz:.0f} MHz"


def _digits(value: float) -> str:
    """Three digits or more, of numbers below 1 three decimals."""
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{decimals}f}"
