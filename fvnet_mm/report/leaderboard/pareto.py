"""Accuracy against cost: which rows of a table can be drawn together, and which of them nothing dominates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fvnet_mm.report.leaderboard.model import Row, Table
from fvnet_mm.report.leaderboard.ranking import is_ranked


@dataclass(frozen=True)
class Cost:
    """A cost of a row, the lower the better.

    Attributes:
        key: Short name, of files as of fields.
        label: As an axis prints it.
        unit: Of the values.
        value: Reads it from a row; None where it is unknown.
        condition: What it was counted or measured under. Rows of different conditions do not compare.
    """

    key: str
    label: str
    unit: str
    value: Callable[[Row], float | None]
    condition: Callable[[Row], str | None] = lambda row: None


def _shape(row: Row) -> str | None:
    return f"at {row.macs_shape[0]} × {row.macs_shape[1]} pixels" if row.macs_shape else None


TRUNK_PARAMETERS = Cost("parameters-trunk", "Parameters of the trunk", "M", lambda row: row.parameters[0])
PARAMETERS = Cost("parameters", "Parameters of the whole model", "M", lambda row: row.parameters[1])
TRUNK_MACS = Cost("macs-trunk", "MACs of the trunk", "G", lambda row: row.macs[0], _shape)
MACS = Cost("macs", "MACs of the whole model", "G", lambda row: row.macs[1], _shape)
LATENCY = Cost("latency", "Latency", "ms", lambda row: row.latency_ms, lambda row: row.speed_note)

COSTS = (TRUNK_PARAMETERS, PARAMETERS, TRUNK_MACS, MACS, LATENCY)


@dataclass(frozen=True)
class Point:
    """A row with its cost, its accuracy in percent, and the latter's standard deviation over the seeds."""

    row: Row
    cost: float
    accuracy: float
    deviation: float | None


@dataclass(frozen=True)
class Chart:
    """What a plot of one metric against one cost shows.

    Attributes:
        measured: The table's own rows, in its order.
        published: Other people's results, apart.
        front: Of ``measured``, in the order of their costs, the finished ones that no other dominates.
        condition: What all costs were counted or measured under.
        left_out: Number of rows with a cost under another condition, or one that is not stated.
    """

    measured: tuple[Point, ...]
    published: tuple[Point, ...]
    front: tuple[Point, ...]
    condition: str | None
    left_out: int


def chart(table: Table, cost: Cost, metric: str) -> Chart:
    """Returns what can be drawn of a table: rows with both numbers, the costs of one condition.

    It is the condition of most measured rows; without measured rows, that of most published ones.
    """
    measured, published = (_points(rows, cost, metric) for rows in (table.rows, table.published))
    conditions = Counter(cost.condition(point.row) for point in measured or published)
    condition = conditions.most_common(1)[0][0] if conditions else None
    kept = [
        tuple(point for point in points if cost.condition(point.row) == condition) for points in (measured, published)
    ]
    left_out = len(measured) + len(published) - sum(map(len, kept))
    front = pareto_front(point for point in kept[0] if is_ranked(point.row, metric))
    return Chart(*kept, front, condition, left_out)


def pareto_front(points: Iterable[Point]) -> tuple[Point, ...]:
    """Returns the points that no other one dominates, by rising cost; of equal ones the first.

    A point is dominated if another costs no more and is at least as accurate, and one of the two is better.
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return tuple(front)


def _points(rows: Iterable[Row], cost: Cost, metric: str) -> list[Point]:
    points = []
    for row in rows:
        value, statistic = cost.value(row), row.metrics.get(metric)
        if value is not None and statistic is not None:
            points.append(Point(row, value, statistic.mean, statistic.std))
    return points
