"""Places and the best printed values of rows that lie close together."""

from collections.abc import Callable

import pytest

from fvnet_mm.report.leaderboard.model import Row, Statistic, Table
from fvnet_mm.report.leaderboard.ranking import best_and_second, ranks


@pytest.mark.parametrize(
    ("means", "places", "best"),
    [
        ((31.04, 30.96, 29.0), (1, 1, 3), ("31.0", "29.0")),
        ((33.2, 9.9), (1, 2), ("33.2", "9.9")),
        ((33.2, 33.2), (1, 1), ("33.2", None)),
    ],
)
def test_numbers_rank_as_they_are_printed(
    means: tuple[float, ...],
    places: tuple[int, ...],
    best: tuple[str, str | None],
    table: Callable[..., Table],
    row: Callable[..., Row],
) -> None:
    ranked = table(rows=tuple(row(index, metrics={"AP": Statistic(mean=mean)}) for index, mean in enumerate(means)))
    assert ranks(ranked) == places
    assert best_and_second(ranked, "AP") == best
