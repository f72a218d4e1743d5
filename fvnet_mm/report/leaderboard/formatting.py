"""What the tables for paper and screen print in a cell, and which columns they have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from fvnet_mm.report.leaderboard.model import Row, Statistic, Table
from fvnet_mm.report.leaderboard.names import PRINTED_METRICS
from fvnet_mm.report.leaderboard.ranking import printed

T = TypeVar("T")

DECIMALS = 2
"""Of parameters in millions and MACs in billions that were counted."""


def count(value: float | None, row: Row) -> str:
    """Parameters or MACs; published ones with the digits that they were published with."""
    if value is None:
        return ""
    return f"{value:.{DECIMALS}f}" if row.provenance != "published" else f"{value:g}"


def common(values: Iterable[T]) -> T | None:
    """The one value that all have; None where they differ."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def at_shape(shape: tuple[int, int] | None) -> str:
    """At which image, (height, width), MACs were counted; empty if unknown."""
    return f"at {shape[0]}x{shape[1]} pixels" if shape is not None else ""


def images(table: Table) -> str:
    """How many images were trained on and evaluated on; empty if unknown."""
    parts = zip(table.images, ("for training", "for validation"), strict=True)
    return ", ".join(f"{count:,} {purpose}" for count, purpose in parts if count is not None)


def shown_metrics(table: Table) -> tuple[str, ...]:
    """Metrics that some row of a table has, of those that are printed; the main one in any case."""
    rows = (*table.rows, *table.published)
    wanted = [name for name in PRINTED_METRICS if name in table.metric_names]
    return tuple(name for name in wanted if name == table.main_metric or any(name in row.metrics for row in rows))


def metric(row: Row, name: str, deviation: bool) -> str:
    """The mean of a metric, with the deviation over the seeds where it is asked for and known; empty if undefined.

    A mean over some of the runs has their number behind it.
    """
    statistic = row.metrics.get(name)
    if statistic is None:
        return ""
    spread = f" ± {printed(statistic.std)}" if deviation and statistic.std is not None else ""
    some = number_of_some(row, statistic)
    return printed(statistic.mean) + spread + (f" {some}" if some else "")


def number_of_some(row: Row, statistic: Statistic) -> str:
    """'(2)' where a metric is defined in only 2 of a row's runs; empty where it is in all."""
    return f"({statistic.n})" if row.runs and statistic.n != len(row.runs) else ""


def seeds(row: Row) -> str:
    """Seeds of the runs behind a row, '?' for unknown ones."""
    return ", ".join("?" if run.seed is None else str(run.seed) for run in row.runs)
