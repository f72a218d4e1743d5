from pathlib import Path

import pytest


@pytest.fixture
def ranks(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "docs")
    import rank_agreement

    return rank_agreement


def test_settings_that_rank_alike(ranks):
    one = {"a": {0: 1.0, 1: 3.0}, "b": {0: 2.5}, "c": {0: 4.0}, "d": {0: 9.0}, "e": {0: 10.0}, "f": {0: 0.0}}
    other = {"a": {0: 20.0}, "b": {0: 10.0}, "c": {0: 30.0}, "d": {0: 40.0}, "e": {0: 50.0}, "g": {0: 0.0}}
    cell = "0.90 [-0.2, 1.0] (5)"  # 1 - 6 * 2 / 120; artanh 0.9 = 1.472 -+ 1.96 * sqrt(1.405 / 2)
    assert ranks.agreement(one, other) == cell
    assert ranks.agreement(one, one) == "1.00 (6)"
    assert ranks.agreement(one, {"a": {0: 1.0}}) == ""
    assert ranks.agreements({"x": one, "y": other}).splitlines()[2:] == [
        f"| (1) |  | {cell} |",
        "| (2) |  |  |",
    ]


def test_seeds_that_rank_alike(ranks):
    seeds = ((1.0, 2.0, 3.0, 4.0, 5.0), (2.0, 1.0, 3.0, 4.0, 5.0), (1.0, 2.0, 3.0, 4.0, 5.0))  # 0.9, 1, 0.9
    scores = {trunk: dict(enumerate(own)) for trunk, *own in zip("abcde", *seeds, strict=True)}
    assert ranks.between_seeds(scores) == "0.93"
    scores["f"] = {0: -9.0}  # with one seed alone it says nothing of others
    assert ranks.between_seeds(scores) == "0.93"
    assert ranks.between_seeds({trunk: {0: values[0]} for trunk, values in scores.items()}) == ""
