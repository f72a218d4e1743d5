"""What the ablation answers: differences between rows of FVNet-T that differ in one thing, from run records.

python docs/ablation_answers.py             puts the table into docs/ablation.md
python docs/ablation_answers.py --check     exits with 1 where it is not there
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from ablation import PAGE, RUNS, Heading, Run, columns_of, difference_cell, read_runs
from ablation_bases import BASES
from ablation_rows import settings_of, variants
from marked import update

from fvnet_mm.errors import UserError

BASE = 0
NOW = BASES[BASE].holds
EVERYWHERE = "FTFU in all phases"
PAIRS = {
    "An FTFU against what can stand in its place": [
        (EVERYWHERE, "two plain depthwise convolutions"),
        (EVERYWHERE, "gate of a GRU"),
        (EVERYWHERE, "sigmoid approximation (CfC)"),
        *((EVERYWHERE, f"{steps} explicit Euler step{'s' * (steps > 1)}") for steps in (1, 2, 4, 8)),
        (EVERYWHERE, "x + SiLU(v) in all phases"),
    ],
    "What an FTFU is made of": [
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
    "Where FTFUs are": [(NOW, EVERYWHERE), (NOW, "x + SiLU(v) in all phases")],
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
    "Around the phases": [
        (NOW, "two convolutions in the stem"),
        (NOW, "depthwise downsampling"),
        (NOW, "no convolution in the feed-forward"),
        (NOW, "none of the three"),
    ],
}
"""Pairs of rows by question, the one that does more first."""


def table(tables: Mapping[Heading, Mapping[str, Sequence[Run]]]) -> str:
    """A row for each pair that was run: how far the first is above the second, seed by seed, in each setting."""
    rows = {row.name: settings_of(row.arguments) for row in variants(BASES[BASE])}
    headings, columns = zip(*columns_of(BASE, tables), strict=True)
    found = {
        question: {
            pair: [difference_cell(*(runs.get(rows[name], ()) for name in pair)) for runs in columns] for pair in pairs
        }
        for question, pairs in PAIRS.items()
    }
    told = [any(row[place] for pairs in found.values() for row in pairs.values()) for place in range(len(columns))]
    numbers = [f"({place})" for place, there in enumerate(told, 1) if there]
    lines = [
        f"({n}) {heading.setting}.  " for n, (heading, there) in enumerate(zip(headings, told, strict=True), 1) if there
    ]
    lines.append("")
    for question, pairs in found.items():
        if run := {pair: row for pair, row in pairs.items() if any(row)}:
            lines += [f"| {question} | {' | '.join(numbers)} |", f"| --- |{' ---: |' * len(numbers)}"]
        for (first, second), row in run.items():
            cells = (cell for cell, there in zip(row, told, strict=True) if there)
            names = (name.replace(NOW, BASES[BASE].title) for name in (first, second))
            lines.append(f"| {' against '.join(names)} | {' | '.join(cells)} |")
        lines += [""] * bool(run)
    return "\n".join(lines).rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 where the page is not what was measured")
    arguments = parser.parse_args()
    try:
        answers = table(read_runs(RUNS))
    except UserError as error:
        sys.exit(f"error: {error}")
    update(PAGE, "answers", answers, "python docs/ablation_answers.py", check=arguments.check)


if __name__ == "__main__":
    main()
