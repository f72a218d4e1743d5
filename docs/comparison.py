"""FVNet beside its rivals: accuracies from run records, sizes and speeds from a benchmark record.

python docs/comparison.py             puts the tables into docs/comparison.md
python docs/comparison.py --check     exits with 1 where they are not there
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from functools import cache
from inspect import signature
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ablation_rows import arguments_of
from ablation_runs import NOT_VARIED, main_value, mean_cell, setting
from marked import update_parts
from rank_agreement import AGREEMENT, agreements
from speed import RIVALS, by_trunk, in_order, model_of

from fvnet_mm.backbones import FVNet
from fvnet_mm.backbones.mpfb import units_of
from fvnet_mm.bench.speed.statistics import ratio_of
from fvnet_mm.engine.trunk import describe
from fvnet_mm.errors import UserError
from fvnet_mm.records import RunRecord
from fvnet_mm.records.benchmark import BenchmarkRecord
from fvnet_mm.records.benchmark_file import BENCHMARK, read_benchmark
from fvnet_mm.records.reading import RECORD, read_record
from fvnet_mm.report.leaderboard.names import TRUNKS
from fvnet_mm.report.statistics.seeds import decide, welch

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "results", ROOT / "docs" / "comparison.md"
RUNS = tuple(
    f"{suite}/*"
    for suite in (
        "bccd",
        "bccd_longer",
        "camvid",
        "camvid_larger",
        "camvid_upernet",
        "shapes_small",
        "shapes_frameworks",
    )
)
"""Patterns of folders of runs, all of trunks as they are now."""
SPEEDS = ("cpu_batch1", "h100_batch32")
"""The benchmark records in which all of them took turns."""
IMAGE = (224, 224)
PHASES = 2
"""Of a block of FVNet, of which its units are spelt out."""
SEEDS = 3
"""Of most trunks; another number stands in the cell."""
ELSEWHERE = "‡"
"""Behind a cell whose runs were made on another device than most of their row."""

described = cache(describe)
"""Reads a trunk's description once, however many runs it has."""


class Trunk(NamedTuple):
    """A trunk by the name of its description, and what is not as there, as JSON."""

    name: str
    changed: str = "{}"

    @property
    def arguments(self) -> dict[str, object]:
        return json.loads(self.changed)

    def __str__(self) -> str:
        return ", ".join((TRUNKS[self.name], *(f"`{key}={value}`" for key, value in self.arguments.items())))


Scores = Mapping[Trunk, Mapping[int, float]]
"""By trunk: accuracies by seed."""


def trunk_of(record: RunRecord) -> Trunk:
    """The trunk of a run."""
    return Trunk(record.backbone.name, changes(record.backbone.name, arguments_of(record)))


def changes(name: str, arguments: Mapping[str, object]) -> str:
    """Those arguments of a trunk that are not as in its description, as JSON."""
    usual = dict(described(name).backbone)
    if usual["type"] == "FVNet":
        usual = spelt_out(usual)
    return as_text(
        {
            key: value
            for key, value in arguments.items()
            if key not in NOT_VARIED and key != "type" and as_text(meant(key, value)) != as_text(usual.get(key))
        }
    )


def spelt_out(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments of an FVNet, and what it takes where they say nothing."""
    defaults = {name: parameter.default for name, parameter in signature(FVNet).parameters.items()}
    arch = asdict(FVNet.get_arch(arguments["arch"]))
    return {key: meant(key, value) for key, value in {**defaults, **arch, **arguments}.items()}


def meant(key: str, value: object) -> object:
    """One value for all ways to write a trunk's argument."""
    if key == "unit":
        return units_of(value, PHASES)
    if key in ("tau", "expansions"):
        return [float(number) for number in value]
    return value


def as_text(value: object) -> str:
    """One text for a tuple and the same list."""
    return json.dumps(value, sort_keys=True)


def read_scores(folders: Sequence[Path]) -> dict[str, dict[Trunk, dict[int, float]]]:
    """The main metric of the finished runs in these folders: by setting, by trunk and by seed.

    Raises:
        UserError: A record cannot be read or has no result, or two runs of a trunk have one seed.
    """
    found: dict[str, dict[Trunk, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for folder in folders:
        record = read_record(folder / RECORD)
        value = main_value(record)
        if record.status != "finished" or value is None or record.seed is None:
            raise UserError(f"{folder} holds no finished run with a seed; leave it out.")
        seeds = found[setting(record)][trunk_of(record)]
        if record.seed in seeds:
            raise UserError(f"{folder} is a second run with seed {record.seed} of the same trunk; leave one out.")
        seeds[record.seed] = value
    return found


def run_elsewhere(folders: Sequence[Path]) -> dict[str, set[Trunk]]:
    """By setting: trunks with runs on another device than most of the setting's."""
    devices: dict[str, dict[Trunk, set[str | None]]] = defaultdict(lambda: defaultdict(set))
    for record in (read_record(folder / RECORD) for folder in folders):
        devices[setting(record)][trunk_of(record)].add(record.environment.device)
    found = {}
    for name, of_trunks in devices.items():
        usual, _ = Counter(device for own in of_trunks.values() for device in own).most_common(1)[0]
        found[name] = {trunk for trunk, own in of_trunks.items() if own != {usual}}
    return found


def accuracy(scores: Scores, trunk: Trunk, own: Trunk) -> str:
    """A cell: the mean of a trunk with its interval, and how far FVNet is above it, by Welch's test over seeds."""
    values, others = (list(scores.get(key, {}).values()) for key in (own, trunk))
    if not others:
        return "not run"
    cell = mean_cell(others, digits=1) + (f" ({len(others)})" if len(others) != SEEDS else "")
    if trunk == own or not values:
        return cell
    test = welch(others, values)
    if test.interval is None:
        return f"{cell}; {test.difference:+.1f}"
    difference = f"{test.difference:+.1f} [{test.interval.low:+.1f}, {test.interval.high:+.1f}]"
    return f"{cell}; {difference if decide(test.interval) == 'within noise' else f'**{difference}**'}"


def in_setting(
    scores: Scores, rival: str, own: Trunk, marks: dict[Trunk, str], elsewhere: Collection[Trunk] = ()
) -> str:
    """A cell of a rival: of each way in which it was run there, those that are not as described with a mark.

    So have those that were run on another device than the rest of the row.
    """
    run = sorted(trunk for trunk in scores if trunk.name == rival) or [Trunk(rival)]
    for trunk in run:
        if trunk.changed != "{}":
            marks.setdefault(trunk, "†" * (len(marks) + 1))
    return "; ".join(
        f"{accuracy(scores, trunk, own)}{marks.get(trunk, '')}{ELSEWHERE * (trunk in elsewhere)}" for trunk in run
    )


class Outcome(str, Enum):
    """Where FVNet stands to a rival in a setting: by Welch's test over seeds, or by single runs."""

    ABOVE = "above"
    NOISE_ABOVE = "within noise, above"
    NOISE_BELOW = "within noise, below"
    BELOW = "below"
    SINGLE_ABOVE = "single runs, above"
    SINGLE_BELOW = "single runs, below"
    NOT_RUN = "not run"


def outcome(scores: Scores, rival: str, own: Trunk) -> Outcome:
    """Where FVNet stands to a rival, run in the way that was best for the rival."""
    values = list(scores.get(own, {}).values())
    others = [list(of.values()) for trunk, of in scores.items() if trunk.name == rival]
    if not values or not others:
        return Outcome.NOT_RUN
    test = welch(max(others, key=np.mean), values)
    above = test.difference > 0
    if test.interval is None:
        return Outcome.SINGLE_ABOVE if above else Outcome.SINGLE_BELOW
    if decide(test.interval) == "within noise":
        return Outcome.NOISE_ABOVE if above else Outcome.NOISE_BELOW
    return Outcome.ABOVE if above else Outcome.BELOW


def verdicts(
    scores: Mapping[str, Scores], records: Sequence[BenchmarkRecord], elsewhere: Mapping[str, Collection[Trunk]]
) -> Iterator[str]:
    """A table of where each size of FVNet stands to each of its rivals, and how much less or more it costs."""
    columns = (*Outcome, "parameters", "MACs", *(f"times as fast, {_device(record)}" for record in records))
    yield f"|  | {' | '.join(columns)} |"
    yield f"|---|{'---|' * len(columns)}"
    for own, rivals in RIVALS.items():
        for rival in rivals:
            found: dict[Outcome, list[str]] = {stands: [] for stands in Outcome}
            for number, name in enumerate(sorted(scores), 1):
                stands = outcome(scores[name], rival, Trunk(own))
                apart = stands is not Outcome.NOT_RUN and any(trunk.name in (own, rival) for trunk in elsewhere[name])
                found[stands].append(f"({number}){ELSEWHERE * apart}")
            cells = [", ".join(numbers) for numbers in found.values()]
            models = [model_of(records[0], name) for name in (own, rival)]
            parameters = [model.parameters["backbone"] for model in models]
            macs = [model.counted_at("trunk", IMAGE).total_macs for model in models]
            cells += [f"{one / other:.2f} times" for one, other in (parameters, macs)]
            for record in records:
                ratios = [row[2] for row in speeds(record, own, [rival])]
                cells.append(ratios[0] if len(ratios) == 1 else f"{min(ratios)} to {max(ratios)}")
            yield f"| {TRUNKS[own]} against {TRUNKS[rival]} | {' | '.join(cells)} |"
    yield ""
    yield f"{ELSEWHERE} One of the two was run on another device than most of the setting's trunks."


def _device(record: BenchmarkRecord) -> str:
    return "CPU" if record.conditions.backend == "cpu" else "GPU"


def speeds(record: BenchmarkRecord, own: str, rivals: Sequence[str]) -> Iterator[list[str]]:
    """Rows: how many times as fast FVNet is as each of its rivals, one for each case."""
    for case in sorted(record.cases, key=in_order):
        of = by_trunk(record, case)
        label = f"times as fast, {_device(record)}, {case.size[0]} x {case.size[1]}, batch {case.batch}"
        if own not in of:
            yield [label, "", *("not run" for _ in rivals)]
            continue
        pairs = [[[ms] for ms in of[trunk].round_ms] for trunk in (own, *rivals)]
        yield [label, "", *(f"{ratio_of(pairs[0], other).value:.2f}" for other in pairs[1:])]


def tables(
    scores: Mapping[str, Scores], records: Sequence[BenchmarkRecord], elsewhere: Mapping[str, Collection[Trunk]]
) -> str:
    """A table for each size of FVNet, and the settings behind the rows."""
    settings = sorted(scores)
    lines: list[str] = []
    marks: dict[Trunk, str] = {}
    for own, rivals in RIVALS.items():
        models = [model_of(records[0], name) for name in (own, *rivals)]
        macs = [model.counted_at("trunk", IMAGE).total_macs / 1e9 for model in models]
        rows = [
            ["", TRUNKS[own], *(TRUNKS[rival] for rival in rivals)],
            ["parameters (M)", *(f"{model.parameters['backbone'] / 1e6:.1f}" for model in models)],
            [f"MACs at {IMAGE[0]} x {IMAGE[1]} (G)", *(f"{each:.2f}" for each in macs)],
            *(row for record in records for row in speeds(record, own, rivals)),
        ]
        for number, name in enumerate(settings, 1):
            cells = (in_setting(scores[name], rival, Trunk(own), marks, elsewhere[name]) for rival in (own, *rivals))
            rows.append([f"({number}) {name.split(' at ')[0]}", *cells])
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines.insert(len(lines) - len(rows) + 1, f"|---|{'---|' * len(models)}")
        lines.append("")
    lines += [f"({number}) {name}.  " for number, name in enumerate(settings, 1)]
    lines += [f"{mark} {trunk}.  " for trunk, mark in marks.items()]
    if any(elsewhere.values()):
        lines.append(f"{ELSEWHERE} Run on another device than the rest of the row.  ")
    return "\n".join([*lines, "", AGREEMENT, "", *agreements(scores)])


def parts() -> dict[tuple[Path, str], str]:
    """What stands between the page's markers.

    Raises:
        UserError: A record cannot be read or is not what it should be.
    """
    folders = [file.parent for place in RUNS for file in sorted(RESULTS.glob(f"{place}/{RECORD}"))]
    records = [read_benchmark(RESULTS / "benchmark" / name / BENCHMARK) for name in SPEEDS]
    found = read_scores(folders), records, run_elsewhere(folders)
    return {(PAGE, "verdicts"): "\n".join(verdicts(*found)), (PAGE, "comparison"): tables(*found)}


def main() -> None:
    update_parts(__doc__, "python docs/comparison.py", parts)


if __name__ == "__main__":
    main()
