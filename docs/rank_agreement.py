"""How alike settings rank what was trained in them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from marked import table
from scipy import stats

from fvnet_mm.report.statistics.resampling import CONFIDENCE

Scores = Mapping[object, Mapping[int, float]]
"""By trunk: accuracies by seed."""

FEWEST = 5
"""Trunks from which a rank correlation says something."""

AGREEMENT = (
    "How similarly two settings rank the trunks trained in both: Spearman's correlation of their means, with its 95 % "
    "interval (Bonett and Wright, Psychometrika 65, 2000) and, in brackets, the number of trunks. The diagonal shows "
    "what seed noise leaves of such agreement: the mean correlation between two seeds of the same setting. Cells with "
    f"fewer than {FEWEST} trunks are empty."
)


def agreements(scores: Mapping[str, Scores]) -> str:
    """A table of how alike each two settings rank the trunks that were trained in both, and seeds of one setting."""
    settings = sorted(scores)
    numbers = [f"({number})" for number in range(1, len(settings) + 1)]
    rows = []
    for place, (number, one) in enumerate(zip(numbers, settings, strict=True)):
        others = (agreement(scores[one], scores[other]) for other in settings[place + 1 :])
        rows.append([number, *[""] * place, between_seeds(scores[one]), *others])
    return table(["", *numbers], "l" + "r" * len(numbers), rows)


def agreement(one: Scores, other: Scores) -> str:
    """A cell: the correlation over the trunks that both have, and their number; nothing where they are too few.

    With the standard error sqrt((1 + r^2 / 2) / (n - 3)) of artanh r.
    """
    both = sorted(one.keys() & other.keys())
    if len(both) < FEWEST:
        return ""
    means = [[np.mean(list(scores[trunk].values())) for trunk in both] for scores in (one, other)]
    ranked = stats.spearmanr(*means).statistic
    if abs(ranked) > 1 - 1e-9:
        return f"{ranked:.2f} ({len(both)})"  # all ranks agree, which leaves the error undefined
    reach = stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt((1 + ranked**2 / 2) / (len(both) - 3))
    low, high = np.tanh(np.arctanh(ranked) + reach * np.array([-1, 1]))
    return f"{ranked:.2f} [{low:.1f}, {high:.1f}] ({len(both)})"


def between_seeds(scores: Scores) -> str:
    """A cell: the mean correlation of one seed with another over the trunks that were trained with both."""
    seeds = sorted({seed for values in scores.values() for seed in values})
    found = []
    for pair in itertools.combinations(seeds, 2):
        both = [values for values in scores.values() if values.keys() >= set(pair)]
        if len(both) >= FEWEST:
            found.append(stats.spearmanr(*([values[seed] for values in both] for seed in pair)).statistic)
    return f"{np.mean(found):.2f}" if found else ""
