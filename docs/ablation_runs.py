"""The runs of the ablation, read from records into tables by base and setting, and the cells of such tables."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ablation_bases import BASES
from ablation_rows import ARCH, arguments_of, settings_of, variants

from fvnet_mm.errors import UserError
from fvnet_mm.records import RunRecord
from fvnet_mm.records.reading import RECORD, find_records, read_record
from fvnet_mm.report.leaderboard.names import FRAMEWORKS, MAIN_METRICS
from fvnet_mm.report.statistics.seeds import decide, mean_interval

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


Row = Sequence[Run]
Tables = Mapping[Heading, Mapping[str, Row]]
"""By what a table's runs have in common, and by a row's settings: its runs."""


def read_runs(folders: Sequence[Path]) -> Tables:
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
            runs = tables[Heading(number, setting_and_device(record))][own]
            if any(run.seed == record.seed for run in runs):
                raise UserError(f"{file} is a second run with seed {record.seed} of the same settings; leave one out.")
            runs.append(Run(record.seed, value))
    return {heading: runs for heading, runs in tables.items() if _compares(heading, runs)}


def _compares(heading: Heading, runs: Mapping[str, Row]) -> bool:
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


def setting_and_device(record: RunRecord) -> str:
    """What a run was measured in and on which device, and the arguments of FVNet that no row varies."""
    varied = ("arch", *ARCH, "unit", "tau", *NOT_VARIED)
    rest = (f"{key}={value}" for key, value in sorted(record.backbone.arguments.items()) if key not in varied)
    device = (f"on {record.environment.device}",) if record.environment.device else ()
    return ", ".join((setting(record), *device, *rest))


def cell(runs: Row, base: Row) -> str:
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


def difference_cell(runs: Row, base: Row) -> str:
    """How far runs are above others, seed by seed, with its interval, bold where it excludes 0."""
    compared = differences(runs, base)
    if not compared:
        return ""
    difference = f"{np.mean(compared):+.2f}"
    if interval := mean_interval(compared):
        difference += f" [{interval.low:+.2f}, {interval.high:+.2f}]"
        if decide(interval) != "within noise":
            difference = f"**{difference}**"
    return difference


def differences(runs: Row, base: Row) -> list[float]:
    """How far finished runs are above others, for each seed that both have."""
    of_base = {run.seed: run.value for run in base if run.value is not None}
    return [run.value - of_base[run.seed] for run in runs if run.value is not None and run.seed in of_base]


def told_apart(pairs: Iterable[tuple[Row, Row]]) -> tuple[int, int]:
    """Of how many pairs of rows the difference has an interval, and how many of these exclude 0."""
    intervals = [interval for pair in pairs if (interval := mean_interval(differences(*pair)))]
    return len(intervals), sum(decide(interval) != "within noise" for interval in intervals)


def columns_of(number: int, tables: Tables) -> list[tuple[Heading, Mapping[str, Row]]]:
    """The settings in which a base was run beside others, those with most rows first: the numbered columns."""
    found = (item for item in tables.items() if item[0].base == number)
    return sorted(found, key=lambda item: (-len(item[1]), item[0]))
