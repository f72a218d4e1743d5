"""The Pareto front against its definition, and which rows may be drawn together."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from fvnet_mm.report.leaderboard.model import Row, Statistic, Table
from fvnet_mm.report.leaderboard.pareto import LATENCY, MACS, PARAMETERS, TRUNK_MACS, Point, chart, pareto_front


def a_point(cost: float, accuracy: float) -> Point:
    row = Row(id="x", backbone="x", label="x", provenance="measured", metrics={})
    return Point(row, cost, accuracy, None)


numbers = st.integers(0, 6).map(float)


@given(st.lists(st.tuples(numbers, numbers), max_size=12))
def test_front_is_what_nothing_dominates(pairs: list[tuple[float, float]]) -> None:
    undominated = {
        (cost, accuracy)
        for cost, accuracy in pairs
        if not any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in pairs)
    }
    front = [(point.cost, point.accuracy) for point in pareto_front(a_point(*pair) for pair in pairs)]
    assert front == sorted(undominated)


def test_published_and_unfinished_rows_are_never_on_the_front(
    table: Callable[..., Table], row: Callable[..., Row], published_row: Callable[..., Row]
) -> None:
    done, begun = row(1), row(2, metrics={"AP": Statistic(mean=90)})
    begun = begun.model_copy(update={"runs": (begun.runs[0].model_copy(update={"status": "running"}),)})
    better = published_row(3, metrics={"AP": Statistic(mean=99)}, parameters=(0.1, 0.1))
    drawn = chart(table(rows=(begun, done), published=(better,)), PARAMETERS, "AP")
    assert [point.row for point in drawn.front] == [done]
    assert {point.row.id for point in drawn.measured} == {begun.id, done.id}
    assert [point.row for point in drawn.published] == [better]


def test_costs_of_other_conditions_are_left_out(
    table: Callable[..., Table], row: Callable[..., Row], published_row: Callable[..., Row]
) -> None:
    rows = (row(0), row(1), row(2, macs_shape=(224, 224), speed_note="another device"), row(3, latency_ms=None))
    small = tuple(published_row(index, macs=(1.0, None), macs_shape=(512, 512)) for index in range(4, 8))
    unstated = published_row(8, macs=(1.0, None), macs_shape=None)
    drawn = chart(table(rows=rows, published=(*small, unstated)), TRUNK_MACS, "AP")
    assert {point.row.id for point in drawn.measured} == {rows[index].id for index in (0, 1, 3)}
    assert (drawn.published, drawn.left_out, drawn.condition) == ((), 6, "at 800 × 1333 pixels")
    assert chart(table(rows=(), published=small), TRUNK_MACS, "AP").condition == "at 512 × 512 pixels"
    assert chart(table(rows=rows, published=()), MACS, "AP").left_out == 1
    drawn = chart(table(rows=rows, published=()), LATENCY, "AP")
    assert {point.row.id for point in drawn.measured} == {rows[0].id, rows[1].id}
    assert drawn.left_out == 1


def test_nothing_known_is_an_empty_chart(table: Callable[..., Table], row: Callable[..., Row]) -> None:
    drawn = chart(table(rows=(row(0, latency_ms=None),), published=()), LATENCY, "AP")
    assert (drawn.measured, drawn.front, drawn.condition, drawn.left_out) == ((), (), None, 0)
    assert chart(table(rows=()), PARAMETERS, "AR_100").measured == ()
