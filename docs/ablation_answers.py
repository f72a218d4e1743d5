"""What the ablation answers: differences between rows of FVNet-T that differ in one thing."""

from __future__ import annotations

from itertools import compress

from ablation_bases import BASES
from ablation_rows import settings_of, variants
from ablation_runs import Tables, columns_of, difference_cell, told_apart
from marked import table

from fvnet_mm.report.statistics.resampling import CONFIDENCE

BASE = 0
NOW = BASES[BASE].holds
EVERYWHERE = "FTFU in all phases"
PAIRS = {
    "FTFU against other units in its place": [
        (EVERYWHERE, "two plain depthwise convolutions"),
        (EVERYWHERE, "gate of a GRU"),
        (EVERYWHERE, "sigmoid approximation (CfC)"),
        *((EVERYWHERE, f"{steps} explicit Euler step{'s' * (steps > 1)}") for steps in (1, 2, 4, 8)),
        (EVERYWHERE, "x + SiLU(v) in all phases"),
    ],
    "Parts of the FTFU": [
        (EVERYWHERE, "no leak"),
        (EVERYWHERE, "attractor without the state"),
        ("attractor without the state", "attractor without the state, bounded"),
        (EVERYWHERE, "one convolution for attractor and conductance"),
        (EVERYWHERE, "conductance of the pixel alone"),
        ("conductance with a kernel of 5", EVERYWHERE),
        ("conductance of the attractor", EVERYWHERE),
        ("FTFU that also sees the mean over the image", EVERYWHERE),
        ("2 closed-form steps with shared weights", EVERYWHERE),
        ("3 closed-form steps with shared weights", EVERYWHERE),
    ],
    "Which phases hold FTFUs": [(NOW, EVERYWHERE), (NOW, "x + SiLU(v) in all phases")],
    "Time constants": [
        (NOW, "not learned"),
        (NOW, "one per phase"),
        (NOW, "all equal at first"),
        ("faster at first", NOW),
        ("slower at first", NOW),
        ("a step of 0.25", NOW),
        ("a step of 4", NOW),
    ],
    "Phases and their grids": [
        (NOW, "(3, 1)"),
        ("(3, 1), (3, 1), (3, 2)", NOW),
        ("(3, 1), (3, 1), (3, 2), (3, 2)", "(3, 1), (3, 1), (3, 2)"),
        (NOW, "(3, 1), (3, 1)"),
        (NOW, "(3, 1), (3, 4)"),
        ("slow phase that also sees the mean over the image", NOW),
        *((f"(3, 1), ({kernel}, 1)", "(3, 1), (3, 1)") for kernel in (5, 7, 9)),
        ("(3, 1), (5, 2)", NOW),
        ("(7, 1), (7, 2)", NOW),
    ],
    "Stem, downsampling and feed-forward": [
        (NOW, "two convolutions in the stem"),
        (NOW, "depthwise downsampling"),
        (NOW, "no convolution in the feed-forward"),
        (NOW, "none of the three"),
    ],
}
"""Pairs of rows by question, the one that does more first."""


def answers(tables: Tables) -> str:
    """A row for each pair that was run: how far the first is above the second, seed by seed, in each setting.

    Above the tables stand the settings, and how many of all intervals exclude 0.
    """
    if not (columns := columns_of(BASE, tables)):
        return ""
    settings = {row.name: settings_of(row.arguments) for row in variants(BASES[BASE])}
    found = {
        question: {pair: [[runs.get(settings[name], ()) for name in pair] for _, runs in columns] for pair in pairs}
        for question, pairs in PAIRS.items()
    }
    compared = [pair for pairs in found.values() for row in pairs.values() for pair in row]
    cells = {
        question: {pair: [difference_cell(*held) for held in row] for pair, row in pairs.items()}
        for question, pairs in found.items()
    }
    shown = [any(row[place] for pairs in cells.values() for row in pairs.values()) for place in range(len(columns))]
    numbers = list(compress((f"({place})" for place in range(1, len(columns) + 1)), shown))
    headings = compress((heading for heading, _ in columns), shown)
    lines = [f"{number} {heading.setting}.  " for number, heading in zip(numbers, headings, strict=True)]
    intervals, beyond = told_apart(compared)
    if intervals:
        chance = intervals * (1 - CONFIDENCE)
        lines += ["", f"{beyond} of {intervals} intervals exclude 0; {chance:.1f} would be expected by chance."]
    lines.append("")
    for question, pairs in cells.items():
        rows = [
            (" against ".join(name.replace(NOW, BASES[BASE].title) for name in pair), *compress(row, shown))
            for pair, row in pairs.items()
            if any(row)
        ]
        if rows:
            lines += [table((question, *numbers), "l" + "r" * len(numbers), rows), ""]
    return "\n".join(lines).rstrip()
