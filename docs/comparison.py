"""FVNet beside its rivals: accuracies from run records, sizes and speeds from a benchmark record.

python docs/comparison.py             puts the tables into docs/comparison.md
python docs/comparison.py --check     exits with 1 where they are not there
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from enum import Enum
from pathlib import Path

import numpy as np
from ablation_runs import mean_cell
from comparison_runs import FLOOR, Scores, Trunk, read_devices, read_scores
from marked import table, update_parts
from rank_agreement import AGREEMENT, agreements
from speed import RIVALS, by_trunk, in_order, model_of

from fvnet_mm.bench.speed.statistics import ratio_of
from fvnet_mm.records.benchmark import BenchmarkRecord
from fvnet_mm.records.benchmark_file import BENCHMARK, read_benchmark
from fvnet_mm.records.reading import RECORD
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
        "camvid_longer",
        "camvid_upernet",
        "shapes_small",
        "shapes_frameworks",
    )
)
"""Patterns of folders of runs, all of trunks as they are now."""
SPEEDS = ("cpu_batch1", "h100_batch32")
"""The benchmark records in which all of them took turns."""
IMAGE = (224, 224)
SEEDS = 3
"""Of most trunks; another number stands in the cell."""
ELSEWHERE = "‡"
"""Behind a rival whose runs were made on another device than FVNet's."""
Devices = Mapping[Trunk, Set[str | None]]
"""By trunk: the devices that it was run on."""


def accuracy(scores: Scores, trunk: Trunk, own: Trunk) -> str:
    """A cell: the mean of a trunk with its interval, and how far FVNet is above it, by Welch's test over seeds."""
    values, others = (list(scores.get(key, {}).values()) for key in (own, trunk))
    if not others:
        return "not run"
    cell = cell_of(others)
    if trunk == own or not values:
        return cell
    test = welch(others, values)
    if test.interval is None:
        return f"{cell}; {test.difference:+.1f}"
    difference = f"{test.difference:+.1f} [{test.interval.low:+.1f}, {test.interval.high:+.1f}]"
    return f"{cell}; {difference if decide(test.interval) == 'within noise' else f'**{difference}**'}"


def cell_of(values: Sequence[float]) -> str:
    """A mean with its interval, and the number of seeds where it is not the usual one."""
    return mean_cell(values, digits=1) + (f" ({len(values)})" if len(values) != SEEDS else "")


def in_setting(scores: Scores, rival: str, own: Trunk, marks: dict[Trunk, str], devices: Devices) -> str:
    """A cell of a rival: of each way in which it was run there, those that are not as described with a mark.

    So have those that were run on another device than FVNet.
    """
    run = sorted(trunk for trunk in scores if trunk.name == rival) or [Trunk(rival)]
    for trunk in run:
        if trunk.changed != "{}":
            marks.setdefault(trunk, "†" * (len(marks) + 1))
    return "; ".join(
        f"{accuracy(scores, trunk, own)}{marks.get(trunk, '')}{ELSEWHERE * apart(devices, trunk, own)}" for trunk in run
    )


def apart(devices: Devices, trunk: Trunk, own: Trunk) -> bool:
    """Whether both were run, and not on the same devices."""
    return len({frozenset(devices[each]) for each in (trunk, own) if each in devices}) > 1


class Outcome(str, Enum):
    """Where FVNet stands to a rival in a setting: by Welch's test over seeds, or by single runs."""

    ABOVE = "significantly above"
    NOISE_ABOVE = "higher mean, within noise"
    NOISE_BELOW = "lower mean, within noise"
    BELOW = "significantly below"
    SINGLE_ABOVE = "higher, single runs"
    SINGLE_BELOW = "lower, single runs"
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


def verdicts(scores: Mapping[str, Scores], records: Sequence[BenchmarkRecord], devices: Mapping[str, Devices]) -> str:
    """A table of where each size of FVNet stands to each of its rivals, and how much less or more it costs."""
    columns = (*Outcome, "parameters", "MACs", *(f"times as fast, {_device(record)}" for record in records))
    rows = []
    for own, rivals in RIVALS.items():
        for rival in rivals:
            found: dict[Outcome, list[str]] = {stands: [] for stands in Outcome}
            for number, name in enumerate(sorted(scores), 1):
                stands = outcome(scores[name], rival, Trunk(own))
                others = [trunk for trunk in scores[name] if trunk.name == rival]
                elsewhere = any(apart(devices[name], trunk, Trunk(own)) for trunk in others)
                found[stands].append(f"({number}){ELSEWHERE * elsewhere}")
            cells = [", ".join(numbers) for numbers in found.values()]
            models = [model_of(records[0], name) for name in (own, rival)]
            parameters = [model.parameters["backbone"] for model in models]
            macs = [model.counted_at("trunk", IMAGE).total_macs for model in models]
            cells += [f"{one / other:.2f} times" for one, other in (parameters, macs)]
            for record in records:
                ratios = [row[2] for row in speeds(record, own, [rival])]
                cells.append(ratios[0] if len(ratios) == 1 else f"{min(ratios)} to {max(ratios)}")
            rows.append((f"{TRUNKS[own]} against {TRUNKS[rival]}", *cells))
    text = table(("", *columns), "l" * (1 + len(columns)), rows)
    return f"{text}\n\n{ELSEWHERE} The two were run on different devices, at least in part."


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


def tables(scores: Mapping[str, Scores], records: Sequence[BenchmarkRecord], devices: Mapping[str, Devices]) -> str:
    """A table for each size of FVNet, and the settings behind the rows."""
    settings = sorted(scores)
    lines: list[str] = []
    marks: dict[Trunk, str] = {}
    for own, rivals in RIVALS.items():
        models = [model_of(records[0], name) for name in (own, *rivals)]
        macs = [model.counted_at("trunk", IMAGE).total_macs / 1e9 for model in models]
        rows = [
            ["parameters (M)", *(f"{model.parameters['backbone'] / 1e6:.1f}" for model in models)],
            [f"MACs at {IMAGE[0]} x {IMAGE[1]} (G)", *(f"{each:.2f}" for each in macs)],
            *(row for record in records for row in speeds(record, own, rivals)),
        ]
        for number, name in enumerate(settings, 1):
            cells = (in_setting(scores[name], rival, Trunk(own), marks, devices[name]) for rival in (own, *rivals))
            rows.append([f"({number}) {name.split(' at ')[0]}", *cells])
        header = ["", *(TRUNKS[name] for name in (own, *rivals))]
        lines += [table(header, "l" * len(header), rows), ""]
    lines += [f"({number}) {name}.  " for number, name in enumerate(settings, 1)]
    lines += [f"{mark} Run with other arguments: {trunk}.  " for trunk, mark in marks.items()]
    lines.append(f"{ELSEWHERE} This rival and FVNet were run on different devices, at least in part.  ")
    return "\n".join([*lines, "", AGREEMENT, "", agreements(scores)])


def floor(scores: Mapping[str, Scores], floors: Mapping[str, Mapping[int, float]]) -> str:
    """A table of what four convolutions reach in each setting, and of the trunks that are not significantly above them.

    By Welch's test over seeds, or by the means where either was run once.
    """
    rows = []
    for number, name in enumerate(sorted(scores), 1):
        if not (own := list(floors.get(name, {}).values())):
            continue
        held = []
        for trunk, of in scores[name].items():
            test = welch(own, list(of.values()))
            if test.difference <= 0 or (test.interval and decide(test.interval) != "higher"):
                held.append((test.difference, f"{TRUNKS[trunk.name]} ({test.difference:+.1f})"))
        not_above = ", ".join(text for _, text in sorted(held)) or "none"
        rows.append((f"({number}) {name.split(' at ')[0]}", cell_of(own), not_above))
    return table(("", "four convolutions", "trunks not significantly above them"), "lll", rows)


def parts() -> dict[tuple[Path, str], str]:
    """What stands between the page's markers.

    Raises:
        UserError: A record cannot be read or is not what it should be.
    """
    folders = [file.parent for place in RUNS for file in sorted(RESULTS.glob(f"{place}/{RECORD}"))]
    records = [read_benchmark(RESULTS / "benchmark" / name / BENCHMARK) for name in SPEEDS]
    every = read_scores(folders)
    scores = {name: {trunk: of for trunk, of in own.items() if trunk.name != FLOOR} for name, own in every.items()}
    floors = {name: own[Trunk(FLOOR)] for name, own in every.items() if Trunk(FLOOR) in own}
    found = scores, records, read_devices(folders)
    return {
        (PAGE, "verdicts"): verdicts(*found),
        (PAGE, "floor"): floor(scores, floors),
        (PAGE, "comparison"): tables(*found),
    }


def main() -> None:
    update_parts(__doc__, "python docs/comparison.py", parts)


if __name__ == "__main__":
    main()
