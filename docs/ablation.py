"""FVNet's ablations: what each variant costs, counted from the code, and scores, read from run records.

python docs/ablation.py                       puts the tables into docs/ablation.md and docs/ablation_history.md
python docs/ablation.py --check               exits with 1 where they are not there
python docs/ablation.py --records DIR ...     prints the tables of the finished trainings in these folders
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from ablation_answers import answers
from ablation_bases import BASES, FORMER
from ablation_rows import cost, settings_of, variants
from ablation_runs import Heading, Row, Tables, cell, columns_of, read_runs, told_apart
from marked import table, update

from fvnet_mm.backbones.arch import STRIDES
from fvnet_mm.errors import UserError

PAGE = Path(__file__).with_name("ablation.md")
HISTORY = PAGE.with_name("ablation_history.md")
RESULTS = PAGE.parents[1] / "results"
RUNS = [
    *(folder for folder in sorted(RESULTS.iterdir()) if folder.is_dir() and folder.name != "repeats"),
    RESULTS / "repeats" / "shapes_small_cpu",  # the first row for what was run on a CPU
]
TIME_CONSTANTS = RESULTS / "ablation" / "time_constants.json"
SPEEDS = RESULTS / "ablation" / "speed.json"


def legend(number: int, heading: Heading, rows: Mapping[str, Row]) -> str:
    """A setting in words, how many of its trainings diverged, and how many rows differ by more than their interval."""
    trained = [run for row in rows.values() for run in row]
    diverged = sum(run.value is None for run in trained)
    base = rows[settings_of(BASES[heading.base].arguments)]
    intervals, beyond = told_apart((row, base) for row in rows.values() if row is not base)
    told = f"; {beyond} of {intervals} intervals exclude 0" * bool(intervals)
    return f"({number}) {heading.setting}: {len(trained)} trainings, {diverged or 'none'} diverged{told}.  "


def speeds() -> dict[str, str]:
    """Cells: how many times as fast as the first base each of its rows is, at each size that was measured.

    Bold where the interval excludes 1.
    """
    if not SPEEDS.exists():
        return {}
    ratios = json.loads(SPEEDS.read_text(encoding="utf-8"))["ratios"].values()
    return {own: ", ".join(speed_cell(*of_size[own]) for of_size in ratios) for own in next(iter(ratios))}


def speed_cell(ratio: float, low: float, high: float) -> str:
    return f"{ratio:.2f}" if low <= 1 <= high else f"**{ratio:.2f}**"


def time_constants(changes: Sequence[Mapping]) -> str:
    """A table of how far training has moved the time constants of those rows that learn them, stage by stage."""
    names = {settings_of(row.arguments): f"{base.title}: {row.name}" for base in BASES for row in variants(base)}
    by_row: dict[tuple[str, str], list[list[Mapping[str, float]]]] = defaultdict(list)
    for change in changes:
        by_row[names[settings_of(change["arguments"])], change["trained"]].append(change["stages"])
    rows = []
    for (name, trained), runs in by_row.items():
        cells = []
        for stage in zip(*runs, strict=True):
            mean, size = (np.mean([run[key] for run in stage]) for key in ("mean", "mean_absolute"))
            cells.append(f"{np.expm1(mean):+.1%} ({np.expm1(size):.1%})")
        rows.append((name, trained, str(len(runs)), *cells))
    header = ("Time constants", "trained in", "Seeds", *(f"stride {stride}" for stride in STRIDES))
    return table(header, "llr" + "r" * len(STRIDES), rows)


def former_sizes() -> str:
    """A table of what the sizes were built as before."""
    rows = []
    for size, forms in FORMER.items():
        for title, arguments in forms.items():
            shape = (", ".join(map(str, arguments[name])) for name in ("channels", "depths"))
            rows.append((f"FVNet-{size.upper()} {title}", *shape, *cost({"arch": size, **arguments})))
    return table(("FVNet", "Channels", "Blocks", "Parameters (M)", "MACs (G)"), "lllrr", rows)


def section(number: int, tables: Tables) -> Iterator[str]:
    """The tables of a base: a row for each variant, a column for each setting in which the base was run beside others.

    Of the first base all rows are there, and their speeds; of others those that were run.
    """
    base = BASES[number]
    found = columns_of(number, tables)
    if number and not found:
        return
    yield f"## {base.title}\n"
    yield from (legend(place, heading, runs) for place, (heading, runs) in enumerate(found, 1))
    yield ""
    fast = {} if number else speeds()
    columns = [
        "Parameters (M)",
        "MACs (G)",
        *(("Times as fast",) if fast else ()),
        *(f"({place})" for place in range(1, len(found) + 1)),
    ]
    own = settings_of(base.arguments)
    shown = [
        row for row in variants(base) if not number or any(settings_of(row.arguments) in runs for _, runs in found)
    ]
    for question, group in itertools.groupby(shown, key=lambda row: row.question):
        rows = []
        for row in group:
            key = settings_of(row.arguments)
            speed = (fast.get(key, "not measured"),) if fast else ()
            cells = (cell(runs.get(key, ()), runs[own]) for _, runs in found)
            rows.append((row.name, *cost(row.arguments), *speed, *cells))
        yield table((question, *columns), "l" + "r" * len(columns), rows)
        yield ""


def parts(tables: Tables) -> dict[str, str]:
    """What stands between the pages' markers: tables of FVNets as they are now and as they were, and of sizes."""
    sections: dict[bool, list[str]] = {False: [], True: []}
    for number, base in enumerate(BASES):
        sections[base.former] += section(number, tables)
    return {
        "answers": answers(tables),
        "tables": "\n".join(sections[False]).rstrip(),
        "former_sizes": former_sizes(),
        "former_tables": "\n".join(sections[True]).rstrip(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 where the page is not what was measured")
    parser.add_argument("--records", nargs="+", type=Path, metavar="DIR", help="print the tables of these run records")
    arguments = parser.parse_args()
    try:
        found = parts(read_runs(arguments.records or RUNS))
    except UserError as error:
        sys.exit(f"error: {error}")
    if arguments.records:
        print(found["answers"], found["tables"], found["former_tables"], sep="\n\n")
        return
    found["time_constants"] = time_constants(json.loads(TIME_CONSTANTS.read_text(encoding="utf-8")))
    for name, text in found.items():
        update(
            HISTORY if name.startswith("former") else PAGE, name, text, "python docs/ablation.py", check=arguments.check
        )


if __name__ == "__main__":
    main()
