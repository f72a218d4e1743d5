"""Who is ranked against whom, and by what."""

from __future__ import annotations

from fvnet_mm.report.leaderboard.model import Row, Table

DIGITS = 1
"""Decimals of a metric in percent, as tables print it."""


def is_finished(row: Row) -> bool:
    """Whether all runs behind a row came to their end; a published row has none."""
    return all(run.status == "finished" for run in row.runs)


def is_ranked(row: Row, metric: str) -> bool:
    """Whether a row takes part in the ranking by a metric: our own or imported, finished, and the metric is defined."""
    return row.provenance != "published" and bool(row.runs) and is_finished(row) and metric in row.metrics


def printed(value: float) -> str:
    """A metric as tables print it."""
    return f"{value:.{DIGITS}f}"


def ranks(table: Table) -> tuple[int | None, ...]:
    """The place of each of a table's rows by its main metric, 1 first; rows that print the same number share one."""
    values = [_value(row, table.main_metric) for row in table.rows]
    return tuple(None if mine is None else 1 + sum(v is not None and v > mine for v in values) for mine in values)


def best_and_second(table: Table, metric: str) -> tuple[str | None, str | None]:
    """The best and the second best printed value of a metric among the ranked rows; None where nothing is ranked.

    A single row is not the best of anything.
    """
    ranked = [printed(row.metrics[metric].mean) for row in table.rows if is_ranked(row, metric)]
    if len(ranked) < 2:
        return None, None
    values = sorted(set(ranked), key=float, reverse=True)
    return values[0], values[1] if len(values) > 1 else None


def _value(row: Row, metric: str) -> float | None:
    return float(printed(row.metrics[metric].mean)) if is_ranked(row, metric) else None
