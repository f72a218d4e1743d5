"""How fast FVNet is beside its rivals, from the benchmark records in results/benchmark.

python docs/speed.py             puts the tables into docs/benchmark.md
python docs/speed.py --check     exits with 1 where they are not there
"""

from __future__ import annotations

from pathlib import Path

from marked import table, update_parts

from fvnet_mm.bench.speed.statistics import ratio_of
from fvnet_mm.errors import UserError
from fvnet_mm.records.benchmark import BenchmarkRecord, Case, Measurement, Model
from fvnet_mm.records.benchmark_file import BENCHMARK, read_benchmark

ROOT = Path(__file__).parents[1]
RECORDS, PAGE = ROOT / "results" / "benchmark", ROOT / "docs" / "benchmark.md"
WHATS = ("trunk", "model", "predict")
RIVALS = {
    "fvnet_n": ("mobilenet_v2", "mobilenet_v3_large", "repvit_m0_9"),
    "fvnet_t": ("mobilenet_v2", "mobilenet_v3_large", "repvit_m0_9"),
    "fvnet_s": ("repvit_m1_1", "swiftformer_s"),
    "fvnet_m": ("efficientformer_l1", "poolformer_s12", "resnet18"),
}
"""By size of FVNet: the trunks that it is held against."""


def in_order(case: Case) -> tuple[int, int, tuple[int, int]]:
    """Where a case's row belongs: by part, then batch, then size."""
    return WHATS.index(case.what), case.batch, case.size


def records() -> list[BenchmarkRecord]:
    return [read_benchmark(file) for file in sorted(RECORDS.glob(f"*/{BENCHMARK}"))]


def model_of(record: BenchmarkRecord, trunk: str) -> Model:
    """The model that a record has of a trunk.

    Raises:
        UserError: It has none.
    """
    found = [model for model in record.models if model.backbone.name == trunk]
    if not found:
        raise UserError(f"no {trunk} took turns in the benchmark of {record.updated}; run it again with {trunk}.")
    return found[0]


def millions(record: BenchmarkRecord, trunk: str) -> str:
    """Parameters of a trunk, by which two versions of it are told apart."""
    return f"{model_of(record, trunk).parameters['backbone'] / 1e6:.1f} M"


def title(record: BenchmarkRecord, trunk: str) -> str:
    """A trunk's name, its parameters and, where they were counted alone, its MACs at 224 x 224 in G."""
    counted = model_of(record, trunk).counted_at("trunk", (224, 224))
    macs = f", {counted.total_macs / 1e9:.2f} G" if counted else ""
    return f"{trunk} ({millions(record, trunk)}{macs})"


def by_trunk(record: BenchmarkRecord, case: Case) -> dict[str, Measurement]:
    """The measurements of a case, by the names of the trunks."""
    return {record.model(entry.model).backbone.name: entry for entry in record.of_case(case)}


def versions(found: list[BenchmarkRecord], name: str) -> list[str]:
    """Markdown: how many times as fast one FVNet is as each of its rivals, case by case; nothing where none was run.

    Of an FVNet that was built otherwise in some of the records there is a table for each version, the newest first.
    """
    by_size: dict[str, list[tuple[BenchmarkRecord, Case]]] = {}
    for record in found:
        for case in record.cases:
            if name in by_trunk(record, case):
                by_size.setdefault(millions(record, name), []).append((record, case))
    newest_first = sorted(by_size.values(), key=lambda rows: max(record.updated for record, _ in rows), reverse=True)
    return [line for rows in newest_first for line in (_version(rows, name), "")]


def in_words(own: Measurement, rival: Measurement) -> str:
    """How many times as fast as a rival, with the interval where there are rounds enough for one."""
    ratio = ratio_of(*([[ms] for ms in entry.round_ms] for entry in (own, rival)))
    interval = f" [{ratio.low:.2f}, {ratio.high:.2f}]" if ratio.low is not None else ""
    return f"{ratio.value:.2f}{interval}"


def _version(rows: list[tuple[BenchmarkRecord, Case]], name: str) -> str:
    # A rival may have taken turns in some of the cases only.
    ran = {rival: [record for record, case in rows if rival in by_trunk(record, case)] for rival in RIVALS[name]}
    rivals = [rival for rival, found in ran.items() if found]
    versus = (f"times {title(ran[rival][0], rival)}" for rival in rivals)
    heads = (title(rows[0][0], name), "image", "batch", "images/s", "floor", *versus)
    cells = []
    for record, case in sorted(rows, key=lambda row: in_order(row[1])):
        of = by_trunk(record, case)
        own = of[name]
        least = record.floor_ms(own)
        share = f"{least / own.times.p50_ms:.0%}" if least is not None else ""
        rate = f"{own.throughput:.0f}" if own.throughput >= 100 else f"{own.throughput:.3g}"
        ratios = (in_words(own, of[rival]) if rival in of else "not run" for rival in rivals)
        cells.append((case.what, f"{case.size[0]} x {case.size[1]}", str(case.batch), rate, share, *ratios))
    return table(heads, "ll" + "r" * (len(heads) - 2), cells)


def tables() -> str:
    """All tables, those of a set of conditions below them."""
    by_conditions: dict[str, list[BenchmarkRecord]] = {}
    for record in records():
        by_conditions.setdefault(record.conditions.summary, []).append(record)
    text: list[str] = []
    for conditions, found in by_conditions.items():
        text += [f"**{conditions}**", "", *(line for name in RIVALS for line in versions(found, name))]
    return "\n".join(text[:-1])


def main() -> None:
    update_parts(__doc__, "python docs/speed.py", lambda: {(PAGE, "speed"): tables()})


if __name__ == "__main__":
    main()
