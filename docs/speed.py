"""How fast FVNet is beside its rivals, from the benchmark records in results/benchmark.

python docs/speed.py             puts the tables into docs/benchmark.md
python docs/speed.py --check     exits with 1 where they are not there
"""

from __future__ import annotations

import argparse
from pathlib import Path

from marked import update

from fvnet_mm.bench.speed.statistics import ratio_of
from fvnet_mm.records.benchmark import BenchmarkRecord
from fvnet_mm.records.benchmark_file import BENCHMARK, read_benchmark

ROOT = Path(__file__).parents[1]
RECORDS, PAGE = ROOT / "results" / "benchmark", ROOT / "docs" / "benchmark.md"
RIVALS = {
    "fvnet_t": ("mobilenet_v2", "mobilenet_v3_large", "repvit_m0_9"),
    "fvnet_s": ("repvit_m1_1", "swiftformer_s"),
    "fvnet_m": ("efficientformer_l1", "poolformer_s12", "resnet18"),
}
"""By size of FVNet: the trunks that it is held against."""


def records() -> list[BenchmarkRecord]:
    return [read_benchmark(file) for file in sorted(RECORDS.glob(f"*/{BENCHMARK}"))]


def title(record: BenchmarkRecord, name: str) -> str:
    """A model's name and its parameters, in millions."""
    return f"{name} ({sum(record.model(name).parameters.values()) / 1e6:.1f} M)"


def table(found: list[BenchmarkRecord], name: str) -> list[str]:
    """Markdown: how many times as fast one FVNet is as each of its rivals, case by case."""
    rivals = RIVALS[name]
    heads = (f"{title(found[0], name)}, image", "batch", "images/s", *(f"times {title(found[0], r)}" for r in rivals))
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for record in found:
        for case in record.cases:
            of = {entry.model: entry for entry in record.of_case(case)}
            cells = [f"{case.size[0]} x {case.size[1]}", str(case.batch), f"{of[name].throughput:.3g}"]
            for rival in rivals:
                ratio = ratio_of(*([[ms] for ms in of[each].round_ms] for each in (name, rival)))
                cells.append(f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]")
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def tables() -> str:
    by_conditions: dict[str, list[BenchmarkRecord]] = {}
    for record in records():
        by_conditions.setdefault(record.conditions.summary, []).append(record)
    text: list[str] = []
    for conditions, found in by_conditions.items():
        text += [f"**{conditions}**", ""]
        for name in RIVALS:
            text += [*table(found, name), ""]
    return "\n".join(text[:-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 where the page is not what was measured")
    update(PAGE, "speed", tables(), "python docs/speed.py", check=parser.parse_args().check)


if __name__ == "__main__":
    main()
