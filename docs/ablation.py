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
from typing import NamedTuple

import numpy as np
from ablation_bases import BASES, FORMER
from ablation_rows import ARCH, arguments_of, cost, settings_of, variants
from marked import update

from fvnet_mm.backbones.arch import STRIDES
from fvnet_mm.errors import UserError
from fvnet_mm.records import RunRecord
from fvnet_mm.records.reading import RECORD, find_records, read_record
from fvnet_mm.report.leaderboard.names import FRAMEWORKS, MAIN_METRICS
from fvnet_mm.report.statistics.seeds import decide, mean_interval

PAGE = Path(__file__).with_name("ablation.md")
HISTORY = PAGE.with_name("ablation_history.md")
RESULTS = PAGE.parents[1] / "results"
RUNS = [
    *(folder for folder in sorted(RESULTS.iterdir()) if folder.is_dir() and folder.name != "repeats"),
    RESULTS / "repeats" / "shapes_small_cpu",  # what was run on a CPU is held against
]
TIME_CONSTANTS = RESULTS / "ablation" / "time_constants.json"
SPEEDS = RESULTS / "ablation" / "speed.json"
FORMER_SIZES = """\
| FVNet | Channels | Blocks | Parameters (M) | MACs (G) |
| --- | --- | --- | ---: | ---: |"""
NOT_VARIED = ("out_indices", "init_cfg", "frozen_stages", "norm_eval", "with_cp")
"""Arguments that follow from the framework, are recorded in the protocol, or change no number."""


class Heading(NamedTuple):
    """What the runs of a table have in common: the number of their base, and what it was measured in."""

    base: int
    setting: str


class Run(NamedTuple):
    """What a table needs of a record; ``value`` is None where the training ended at a loss or gradient not finite."""

    seed: int | None
    value: float | None


def read_runs(folders: Sequence[Path]) -> dict[Heading, dict[str, list[Run]]]:
    """Finished trainings of the rows, of whatever FVNets there are among the records: by table, and by settings.

    Raises:
        UserError: A record cannot be read, or two runs have the same settings and seed.
    """
    known = [{settings_of(row.arguments) for row in variants(base)} for base in BASES]
    tables: dict[Heading, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for file in (file for folder in folders for file in find_records(folder) if file.name == RECORD):
        record = read_record(file)
        if record.backbone.type != "FVNet":
            continue
        value = main_value(record)
        own = settings_of(arguments_of(record))
        diverged = value is None and any(file.parent.glob("nonfinite_iter_*.json"))
        finished = diverged or (record.status == "finished" and value is not None)
        bases = [number for number, rows in enumerate(known) if own in rows] if finished else []
        if not bases:
            print(f"{file}: left out, it is no finished training of a row with a result.", file=sys.stderr)
        for number in bases:
            runs = tables[Heading(number, _setting(record))][own]
            if any(run.seed == record.seed for run in runs):
                raise UserError(f"{file} is a second run with seed {record.seed} of the same settings; leave one out.")
            runs.append(Run(record.seed, value))
    return {heading: runs for heading, runs in tables.items() if _compares(heading, runs)}


def _compares(heading: Heading, runs: Mapping[str, Sequence[Run]]) -> bool:
    """Whether a base was run, and something else beside it."""
    return settings_of(BASES[heading.base].arguments) in runs and len(runs) > 1


def main_value(record: RunRecord) -> float | None:
    """The main metric of a run, in percent; None where it has no result."""
    return record.result and record.result.metrics.get(MAIN_METRICS[record.task])


def mean_cell(values: Sequence[float], digits: int) -> str:
    """A mean and, of several values, half of its interval."""
    cell = f"{np.mean(values):.{digits}f}"
    if interval := mean_interval(values):
        cell += f" ± {(interval.high - interval.low) / 2:.{digits}f}"
    return cell


def trained_in(record: RunRecord) -> str:
    """What a run was trained in and for how long: framework, data, length."""
    data = record.data.label if record.data else "unknown data"
    return f"{FRAMEWORKS[record.framework]} on {data}, {record.protocol.length} {record.protocol.length_unit}s"


def setting(record: RunRecord) -> str:
    """What a run was measured in: metric, framework, data, length of training, and protocol."""
    rate = record.protocol.learning_rate
    trained = trained_in(record) + (f" at a learning rate of {rate:g}" if rate is not None else "")
    return f"{MAIN_METRICS[record.task]} of {trained}, protocol {record.protocol.fingerprint}"


def _setting(record: RunRecord) -> str:
    """What a run was measured in and on which device, and the arguments of FVNet that no row varies."""
    varied = ("arch", *ARCH, "unit", "tau", *NOT_VARIED)
    rest = (f"{key}={value}" for key, value in sorted(record.backbone.arguments.items()) if key not in varied)
    device = (f"on {record.environment.device}",) if record.environment.device else ()
    return ", ".join((setting(record), *device, *rest))


def cell(runs: Sequence[Run], base: Sequence[Run]) -> str:
    """A row's mean with its interval, the number of seeds, and the difference to the first row with its interval.

    Runs of one seed read the same images in the same order, augmented alike, and share most initial weights. So rows
    are compared seed by seed (Student's paired test), which takes out what all runs of a seed have in common.
    """
    if not runs:
        return ""
    finished = {run.seed: run.value for run in runs if run.value is not None}
    diverged = len(runs) - len(finished)
    count = f"({len(runs)}, {diverged} diverged)" if diverged else f"({len(runs)})"
    if not finished:
        return count
    mean = f"{mean_cell(list(finished.values()), digits=2)} {count}"
    difference = difference_cell(runs, base)
    return f"{mean}; {difference}" if difference and runs is not base else mean


def difference_cell(runs: Sequence[Run], base: Sequence[Run]) -> str:
    """How far runs are above others, seed by seed, with its interval, bold where that leaves out 0."""
    compared = differences(runs, base)
    if not compared:
        return ""
    difference = f"{np.mean(compared):+.2f}"
    if interval := mean_interval(compared):
        difference += f" [{interval.low:+.2f}, {interval.high:+.2f}]"
        if decide(interval) != "within noise":
            difference = f"**{difference}**"
    return difference


def differences(runs: Sequence[Run], base: Sequence[Run]) -> list[float]:
    """How far finished runs are above others, for each seed that both have."""
    of_base = {run.seed: run.value for run in base if run.value is not None}
    return [run.value - of_base[run.seed] for run in runs if run.value is not None and run.seed in of_base]


def legend(number: int, heading: Heading, runs: Mapping[str, Sequence[Run]]) -> str:
    """A setting in words, how many of its trainings diverged, and how many rows differ by more than their interval."""
    trained = [run for row in runs.values() for run in row]
    diverged = sum(run.value is None for run in trained)
    of_base = runs[settings_of(BASES[heading.base].arguments)]
    intervals = [mean_interval(differences(row, of_base)) for row in runs.values() if row is not of_base]
    intervals = [interval for interval in intervals if interval]
    beyond = sum(decide(interval) != "within noise" for interval in intervals)
    told = f"; {beyond} of the {len(intervals)} intervals leave out 0" * bool(intervals)
    return f"({number}) {heading.setting}: {len(trained)} trainings, {diverged or 'none'} diverged{told}.  "


def speeds() -> dict[str, str]:
    """Cells: how many times as fast as the first base each of its rows is, at each size that was measured.

    Bold where the interval leaves out 1.
    """
    if not SPEEDS.exists():
        return {}
    ratios = json.loads(SPEEDS.read_text(encoding="utf-8"))["ratios"].values()
    return {own: ", ".join(speed_cell(*of_size[own]) for of_size in ratios) for own in next(iter(ratios))}


def speed_cell(ratio: float, low: float, high: float) -> str:
    return f"{ratio:.2f}" if low <= 1 <= high else f"**{ratio:.2f}**"


def time_constants(changes: Sequence[Mapping]) -> list[str]:
    """A table of how far training has moved the time constants of those rows that learn them, stage by stage."""
    names = {settings_of(row.arguments): f"{base.title}: {row.name}" for base in BASES for row in variants(base)}
    by_row: dict[tuple[str, str], list[list[Mapping[str, float]]]] = defaultdict(list)
    for change in changes:
        by_row[names[settings_of(change["arguments"])], change["trained"]].append(change["stages"])
    lines = [
        f"| Time constants | trained in | Seeds | {' | '.join(f'stride {stride}' for stride in STRIDES)} |",
        f"| --- | --- | ---: |{' ---: |' * len(STRIDES)}",
    ]
    for (name, trained), runs in by_row.items():
        cells = []
        for stage in zip(*runs, strict=True):
            mean, size = (np.mean([run[key] for run in stage]) for key in ("mean", "mean_absolute"))
            cells.append(f"{np.expm1(mean):+.1%} ({np.expm1(size):.1%})")
        lines.append(f"| {name} | {trained} | {len(runs)} | {' | '.join(cells)} |")
    return lines


def former_sizes() -> str:
    """A table of what the sizes were built as before."""
    rows = [FORMER_SIZES]
    for size, forms in FORMER.items():
        for title, arguments in forms.items():
            shape = (", ".join(map(str, arguments[name])) for name in ("channels", "depths"))
            cells = (f"FVNet-{size.upper()} {title}", *shape, *cost({"arch": size, **arguments}))
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def columns_of(
    number: int, tables: Mapping[Heading, Mapping[str, Sequence[Run]]]
) -> list[tuple[Heading, Mapping[str, Sequence[Run]]]]:
    """The settings in which a base was run beside others, those with most rows first: the numbered columns."""
    found = (item for item in tables.items() if item[0].base == number)
    return sorted(found, key=lambda item: (-len(item[1]), item[0]))


def section(number: int, tables: Mapping[Heading, Mapping[str, Sequence[Run]]]) -> Iterator[str]:
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
        yield f"| {' | '.join((question, *columns))} |"
        yield f"| --- |{' ---: |' * len(columns)}"
        for row in group:
            key = settings_of(row.arguments)
            speed = (fast.get(key, "not measured"),) if fast else ()
            cells = (cell(runs.get(key, ()), runs[own]) for _, runs in found)
            yield f"| {' | '.join((row.name, *cost(row.arguments), *speed, *cells))} |"
        yield ""


def parts(tables: Mapping[Heading, Mapping[str, Sequence[Run]]]) -> dict[str, str]:
    """What stands between the pages' markers: tables of FVNets as they are now and as they were, and of sizes."""
    sections: dict[bool, list[str]] = {False: [], True: []}
    for number, base in enumerate(BASES):
        sections[base.former] += section(number, tables)
    return {
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
        print(found["tables"], found["former_tables"], sep="\n\n")
        return
    found["time_constants"] = "\n".join(time_constants(json.loads(TIME_CONSTANTS.read_text(encoding="utf-8"))))
    for name, text in found.items():
        update(
            HISTORY if name.startswith("former") else PAGE, name, text, "python docs/ablation.py", check=arguments.check
        )


if __name__ == "__main__":
    main()
