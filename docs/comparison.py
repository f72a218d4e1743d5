"""FVNet beside its rivals: accuracies from run records, sizes and speeds from a benchmark record.

python docs/comparison.py             puts the tables into docs/comparison.md
python docs/comparison.py --check     exits with 1 where they are not there
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from inspect import signature
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ablation import NOT_VARIED, main_value, mean_cell, setting
from ablation_bases import FORMER
from ablation_rows import arguments_of, cost
from marked import update
from scipy import stats
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
from fvnet_mm.report.statistics.seeds import decide, welch

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "results", ROOT / "docs" / "comparison.md"
RUNS = (
    *("camvid/*", "camvid_upernet/*", "bccd/*", "shapes_small/*", "shapes_parts/fvnet_?_*"),
    *("earlier_sizes/ablation_[3tf]*/ftfu_seed?", "earlier_sizes/*/*fvnet_?_seed?", "shapes_parts/ftfu_seed?"),
    *("earlier_sizes/shapes_small/fvnet_t_narrow_seed?", "earlier_sizes/ablation_3x/t_early_seed?"),
)
"""Patterns of folders: all trunks, and of FVNet those with no part of theirs changed."""
SPEEDS = "cpu_batch1"
"""The benchmark record in which all of them took turns."""
IMAGE = (224, 224)
PHASES = 2
"""Of a block of FVNet, of which its units are spelt out."""
FEWEST = 5
"""Trunks from which a rank correlation says something."""

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
        backbone = described(self.name).backbone
        for title, former in FORMER.get(backbone.get("arch"), {}).items():
            if changes(self.name, {**backbone, **former}) == self.changed:
                return f"{self.name} {title}"
        return ", ".join((self.name, *(f"`{key}={value}`" for key, value in self.arguments.items())))


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


def reference(scores: Scores, own: str) -> Trunk:
    """The FVNet of a size that others are held against: that of now, or else the most like it."""
    run = sorted(trunk for trunk in scores if trunk.name == own)
    return min(run, key=lambda trunk: (len(trunk.arguments), -len(scores[trunk])), default=Trunk(own))


def accuracy(scores: Scores, trunk: Trunk, own: str) -> str:
    """A cell: the mean of a trunk with its interval, and how far FVNet is above it, by Welch's test over seeds."""
    values, others = (list(scores.get(key, {}).values()) for key in (reference(scores, own), trunk))
    if not others:
        return "not run"
    cell = mean_cell(others, digits=1)
    if trunk.name == own or not values:
        return cell
    test = welch(others, values)
    verdict = decide(test.interval)
    reach = f" [{test.interval.low:+.1f}, {test.interval.high:+.1f}]" if test.interval else ""
    difference = f"{test.difference:+.1f}{reach}"
    return f"{cell}; FVNet {f'**{difference}**' if verdict == 'higher' else difference}, {verdict}"


def counts(record: BenchmarkRecord, trunk: Trunk) -> tuple[str, str]:
    """Parameters in millions and MACs in G of a trunk, of FVNets from the code."""
    if trunk.name in RIVALS:
        parameters, macs = map(float, cost({"arch": described(trunk.name).backbone.arch, **trunk.arguments}))
    else:
        model = model_of(record, trunk.name)
        parameters, macs = model.parameters["backbone"] / 1e6, model.counted_at("trunk", IMAGE).total_macs / 1e9
    return f"{parameters:.1f}", f"{macs:.2f}"


def speeds(record: BenchmarkRecord, own: str, name: str) -> list[str]:
    """Cells: how many times as fast FVNet is as another trunk, one for each size of images."""
    cells = []
    for case in sorted(record.cases, key=in_order):
        of = by_trunk(record, case)
        cells.append(f"{ratio_of(*([[ms] for ms in of[trunk].round_ms] for trunk in (own, name))).value:.2f}")
    return cells


def tables(scores: Mapping[str, Scores], record: BenchmarkRecord) -> str:
    """A table for each size of FVNet, and the settings behind the columns."""
    settings = sorted(scores)
    lines: list[str] = []
    for own, rivals in RIVALS.items():
        sizes = [f"{case.size[0]} x {case.size[1]}" for case in sorted(record.cases, key=in_order)]
        heads = ("Parameters (M)", "MACs (G)", *(f"times as fast, {size}" for size in sizes))
        lines.append(f"| Trunk | {' | '.join((*heads, *(f'({number + 1})' for number in range(len(settings)))))} |")
        lines.append(f"|---|{'---:|' * len(heads)}{'---|' * len(settings)}")
        for rival in (own, *rivals):
            ratios = [""] * len(sizes) if rival == own else speeds(record, own, rival)
            run = {trunk for of in scores.values() for trunk in of if trunk.name == rival}
            shown = run | ({Trunk(rival)} if rival == own or not run else set())
            for trunk in sorted(shown, key=lambda trunk: (trunk != Trunk(trunk.name), trunk)):
                accuracies = [accuracy(scores[name], trunk, own) for name in settings]
                lines.append(f"| {' | '.join((str(trunk), *counts(record, trunk), *ratios, *accuracies))} |")
        lines.append("")
    lines += [f"({number + 1}) {name}{earlier(scores[name])}.  " for number, name in enumerate(settings)]
    return "\n".join([*lines, *("\n" + sentence for sentence in agreements(scores))])


def earlier(scores: Scores) -> str:
    """Which FVNets of a setting are not those of now."""
    others = [trunk for trunk in (reference(scores, own) for own in RIVALS) if trunk != Trunk(trunk.name)]
    return f"; FVNet is {' and '.join(map(str, others))}" if others else ""


def agreements(scores: Mapping[str, Scores]) -> Iterator[str]:
    """How alike each pair of settings ranks the trunks of now that were trained in both (Spearman's correlation)."""
    for (one, first), (other, second) in itertools.combinations(enumerate(sorted(scores), 1), 2):
        both = sorted(scores[first].keys() & scores[second].keys())
        both = [trunk for trunk in both if trunk.name not in RIVALS or trunk == Trunk(trunk.name)]
        if len(both) >= FEWEST:
            means = [[np.mean(list(scores[name][trunk].values())) for trunk in both] for name in (first, second)]
            alike = stats.spearmanr(*means).statistic
            yield f"Rank correlation of ({one}) and ({other}) over {len(both)} trunks: {alike:.2f} (1: the same order)."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 where the page is not what was measured")
    arguments = parser.parse_args()
    folders = [file.parent for place in RUNS for file in sorted(RESULTS.glob(f"{place}/{RECORD}"))]
    text = tables(read_scores(folders), read_benchmark(RESULTS / "benchmark" / SPEEDS / BENCHMARK))
    update(PAGE, "comparison", text, "python docs/comparison.py", check=arguments.check)


if __name__ == "__main__":
    main()
