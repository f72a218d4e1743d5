"""The page of FVNet's ablations: what each variant costs, counted from the code, and scores, read from run records.

python docs/ablation.py                             prints it, with the results of FVNets in results/
python docs/ablation.py --write                     writes docs/ablation.md
python docs/ablation.py --records DIR ...           with the results of the finished trainings in these folders
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
from ablation_rows import ARCH, IMAGE, arguments_of, cost, settings_of, variants

from fvnet_mm.backbones.arch import STRIDES
from fvnet_mm.errors import UserError
from fvnet_mm.files import replacing
from fvnet_mm.records import RunRecord
from fvnet_mm.records.reading import RECORD, find_records, read_record
from fvnet_mm.report.leaderboard.names import MAIN_METRICS
from fvnet_mm.report.statistics.seeds import decide, mean_interval

PAGE = Path(__file__).with_name("ablation.md")
RESULTS = PAGE.parents[1] / "results"
RUNS = [
    *(folder for folder in sorted(RESULTS.iterdir()) if folder.is_dir() and folder.name != "repeats"),
    RESULTS / "repeats" / "shapes_small_cpu",  # what was run on a CPU is held against
]
TIME_CONSTANTS = RESULTS / "ablation" / "time_constants.json"
SPEEDS = RESULTS / "ablation" / "speed.json"
NOT_VARIED = ("out_indices", "init_cfg", "frozen_stages", "norm_eval", "with_cp")
"""Arguments that follow from the framework, are recorded in the protocol, or change no number."""

SUMMARY = "\n".join(
    f"| {' | '.join(cells)} |"
    for cells in (
        ("question", "answer", "seen in"),
        ("---", "---", "---"),
        (
            "What matters most?",
            "stem and downsampling, width and depth at strides 4 and 8, and the learning rate",
            "FVNet-T on shapes, its former forms",
        ),
        (
            "Does an FTFU do more than what can stand in its place?",
            "not seen: no unit differs by more than 1.0 and its noise; a GRU's gate is above FTFU on shapes",
            "FVNet-T on CamVid and shapes",
        ),
        (
            "Is the closed form better than explicit Euler steps?",
            "as accurate as 1, 2, 4 or 8 of them; eight take longer",
            "FVNet-T on CamVid",
        ),
        (
            "Is it more stable?",
            "not seen: no training diverged, at three times the rate neither",
            "all tables; FVNet-T at 0.0045, one seed of nine units",
        ),
        (
            "Does the leak help? Do learned time constants?",
            "the leak by 0.5 at most, hardly beyond noise; learned or not, the same",
            "FVNet-T, and as first built",
        ),
        (
            "Which phases, on which grids?",
            "a slow phase at half the resolution does an eighth of the unit's work and loses nothing that was seen",
            "FVNet-T, and as built fourth",
        ),
    )
)

INTRODUCTION = f"""# Ablation

<!-- Written by `python docs/ablation.py --write`. -->

What each choice in FVNet is worth: FVNet with one thing changed. Parameters and MACs are the trunk's, at
{IMAGE[2]}x{IMAGE[3]}; element-wise work, in which units differ, is not counted. Times as fast are those of the trunk on
two threads of a CPU, at 224 x 224 and 512 x 512, in its form for inference, all rows in turns; above 1 a row is faster
than the first (`python docs/variant_speed.py`). Time constants change nothing that is computed, and their rows come to
0.92 to 1.01: so much is noise. The numbered columns are settings: runs of one share their protocol, data and device,
and all records are in `results`, each with the command that made it.

A cell has the mean over seeds in percent with Student's 95 % interval, the number of seeds, and behind the semicolon
the difference to the first row with its interval, bold where that leaves out 0. The difference is taken seed by seed:
runs of one seed read the same images in the same order and begin alike, and what they have in common is no part of it,
so that it can be much narrower than the spread of the means. Of intervals of rows that do not differ one in twenty
leaves out 0 all the same. Empty cells were not run.

The settings of a row are arguments of `FVNet`. In a config they go under `model.backbone`, on the command line under
`--cfg-options`, as in `model.backbone.unit=[SiLUUnit,GatedUnit]` (phases from fast to slow). Where channels change,
`model.neck.in_channels` does, too: a [suite](../suites/ablation.yaml) has all rows. The units are in
[`ftfu.py`](../fvnet_mm/backbones/ftfu.py) and [`ablation.py`](../fvnet_mm/backbones/ablation.py).

## What it says so far

Small settings have been run: Semantic FPN on 101 frames of one CamVid drive (68 for training, 11 classes), 200 steps
of 8 images of 128 x 96 pixels from random weights (under protocol 003355592687: 4 images of 256 x 192). In `camvid`
every third frame is for validation and lies between two of training, so it tells how well a network fits; in
`camvid_later` the last 33 are, and show what came after. Also on 2,000 images of the shapes benchmark of 160 x 160
pixels, 10 epochs; and RetinaNet on BCCD's photographs of blood smears (205 for training), 5 or 15 epochs at 192 x 144.

{SUMMARY}

- **What is around the blocks matters most.** On shapes FVNet-T (20.7) loses 2.3 mIoU without the third convolution in
  its stem, 1.6 with depthwise downsampling and 1.7 without the depthwise convolution in its feed-forwards (the first
  two more than the noise of three seeds), which save 2 to 12 % of its MACs. They had been found the other way round: to
  FVNet-T as built fourth with x + SiLU(v) in its phases (15.2, one run) they brought 3.1, 2.6 and 2.5, the first two
  together 4.9 and all three with kernels of 7 5.9, at 2 to 42 % more MACs. What they cost was taken away in width:
  FVNet-T has the MACs of its fourth form (15.5, one run). Kernels of 7 bring nothing now, and a third phase or a larger
  expansion brought half a point at most.
- **Nothing of that shows on CamVid**, where 200 steps at 128 x 96 hardly tell one network from another: FVNet-T as it
  is now is level with its fourth form.
- **What the paper claims for its unit is not seen.** On shapes FVNet-T as it is, an FTFU in the slow phase beside
  x + SiLU(v) in the fast, has a mean 0.4 to 1.0 above what holds the same in all phases: FTFUs, FTFUs without leak or
  whose attractor is no offset from the state, CfC's sigmoid approximation, one explicit Euler step, x + SiLU(v) (the
  limit without leak whose conductance is its attractor) or two plain depthwise convolutions. A GRU's gate, which is a
  bounded FTFU without leak ([architecture](architecture.md)), is 0.1 above it. None of that is more than the noise of
  three seeds. On CamVid all ten are within 0.6 of it; two intervals, of no leak and of two Euler steps, leave out 0 by
  less than 0.1, as one in twenty does by chance.
- **A GRU's gate against FTFU in all phases**: on shapes 0.8 above it, in three of three pairs of runs (0.0 to 1.6
  seed by seed, within noise by Welch's test), 0.6 in the second FVNet-T (two pairs) and 1.0 in the fourth (one); on
  CamVid 0.3 above it now, and 0.2 below it in one of three pairs.
- **On CamVid no unit differs from FTFU in the former FVNets** by more than the noise of its seeds but x + SiLU(v), in
  FVNet-T as built fourth: 0.7 above it on `camvid` and 1.4 on `camvid_later`, in six of six pairs of runs.
- **Units that forget**, where the attractor is no offset from the state or that of a GRU, were above FTFU in all three
  seeds with the first FVNet-T at 0.0015, each of three such units against the same three runs, and in three of four
  pairs with the second on shapes; with the third and the fourth they are level with it on CamVid.
- **The leak added nothing** in FVNet-T as first built at 0.0005, **nor did learning the time constants**, giving each
  channel its own, or laying them out as a ladder: each was within 0.5. But they could hardly have shown: the sum of
  learning rates over 200 steps on CamVid allows Adam to move a time constant by 5 % at that rate and 17 % at 0.0015,
  and they move by 1 %. In 780 steps on BCCD and 1,250 on shapes it allows a factor of 2.5, and they move by 1 to 3 %:
  what one step wants the next does not. What there is of a direction is towards faster, at small strides. In FVNet-T
  as it is now they make no difference on CamVid either: it comes to 53.0 with time constants that are not learned,
  that are, and that learn ten times as fast as the rest and move by 10 % (`results/ablation_rates`), seed by seed
  within 0.1.
  One convolution for attractor and conductance, or a conductance that sees its own pixel alone, is level with two.
- **Width and depth at strides 4 and 8** gained 1.6 mIoU on CamVid from the first FVNet-T to the second, 3.0 to the
  third and 2.5 to the fourth, and what they cost is paid at large images: at 800 x 1333 the third took about twice as
  long as the first ([speed](benchmark.md#measured)).
- **A slow phase on a grid of half the resolution loses nothing**: with both phases on the full grid FVNet-T comes to
  53.1 on CamVid, 0.0 above it. In half of the channels or little more, the slow phase's step takes about an eighth of
  the work that steps in all phases take.
- **A device makes as much difference as a unit.** On a CPU FVNet-T comes to 19.6 on shapes where the GPU gives 20.7. So
  rows are compared with what ran on the same device.
- **With no more parameters and MACs than MobileNetV2** FVNet-T comes to 17.8 on shapes (1.55 M and 0.277 G; one run on
  a CPU, 2.3 below FVNet-T there). With fewer and wider blocks it became FVNet-N (1.73 M and 0.261 G): 18.4, 17.1 and
  17.2, and faster; MobileNetV2 has 15.3, MobileNetV3-Large 17.7, on a GPU.
- **The learning rate matters more than most of this**: at 0.0015 every row gains 7.8 mIoU and more over 0.0005 on
  CamVid, where networks are at the beginning of their training, and from 0.0015 to 0.0045 nine units gain -0.5 to 2.0,
  in one seed each.

Such small images and short trainings from random weights may favour what sees details early and learns fast.
"""

FORMER_SIZES = """## How FVNet was built before

Records and tables speak of these, too. All held FTFUs in all phases and had two convolutions in the stem, depthwise
downsampling and no convolution in the feed-forwards. [`ablation_bases.py`](ablation_bases.py) has them as arguments of
`FVNet`.

| FVNet | Channels | Blocks | Parameters (M) | MACs (G) |
| --- | --- | --- | ---: | ---: |
"""

MOVED = """## Where the time constants end

How far training has moved them: geometric mean over blocks, phases and channels, over all seeds, and in brackets the
mean size of the change, whichever its direction. `docs/learned_tau.py` has read it from the checkpoints.
"""


PICTURES = """## Where FVNet flows fast

Effective time constants, tau / (1 + tau f), in the last block of each stage, of the FTFU in its slow phase, on whose
coarse grid they are drawn: FVNet-T in RetinaNet, trained on BCCD ([suite](../suites/bccd.yaml), seed 0), on three
photographs of its validation split. Dark is fast. They stay within 1.0 and 1.6 steps. At stride 4 parts of the empty
ground are slow and the white cell of the second photograph is fast; behind, little of the photographs can be made out,
and at stride 32, after so short a training, everything flows at one speed.
`python docs/time_constants.py CHECKPOINT IMAGE ... --arch t --long-side 192 --out PICTURE.png` draws them.

![Effective time constants on three photographs](images/time_constants.png)

Photographs: [BCCD Dataset](https://github.com/Shenggan/BCCD_Dataset), MIT License, Copyright (c) 2017 shenggan.
"""


class Heading(NamedTuple):
    """What the runs of a table have in common: the number of their base, and what it was measured in."""

    base: int
    setting: str

    def __str__(self) -> str:
        return f"{BASES[self.base].title}: {self.setting}"


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
    return f"{record.framework} on {data}, {record.protocol.length} {record.protocol.length_unit}s"


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
    compared = differences(runs, base)
    if not compared or runs is base:
        return mean
    difference = f"{np.mean(compared):+.2f}"
    if interval := mean_interval(compared):
        difference += f" [{interval.low:+.2f}, {interval.high:+.2f}]"
        if decide(interval) != "within noise":
            difference = f"**{difference}**"
    return f"{mean}; {difference}"


def differences(runs: Sequence[Run], base: Sequence[Run]) -> list[float]:
    """How far finished runs are above those of the first row, for each seed that both have."""
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
    return (
        f"({number}) {heading.setting}: {len(trained)} trainings, {diverged or 'none'} diverged; {beyond} of the "
        f"{len(intervals)} intervals leave out 0.  "
    )


def speeds() -> dict[str, str]:
    """Cells: how many times as fast as the first base each of its rows is, at each size that was measured."""
    if not SPEEDS.exists():
        return {}
    ratios = json.loads(SPEEDS.read_text(encoding="utf-8"))["ratios"].values()
    return {own: ", ".join(f"{of_size[own][0]:.2f}" for of_size in ratios) for own in next(iter(ratios))}


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
    """The section on what the sizes were built as before."""
    rows = []
    for size, forms in FORMER.items():
        for title, arguments in forms.items():
            shape = (", ".join(map(str, arguments[name])) for name in ("channels", "depths"))
            cells = (f"FVNet-{size.upper()} {title}", *shape, *cost({"arch": size, **arguments}))
            rows.append(f"| {' | '.join(cells)} |\n")
    return FORMER_SIZES + "".join(rows)


def section(number: int, tables: Mapping[Heading, Mapping[str, Sequence[Run]]]) -> Iterator[str]:
    """The tables of a base: a row for each variant, a column for each setting in which the base was run beside others.

    Of the first base all rows are there, and their speeds; of others those that were run.
    """
    base = BASES[number]
    found = sorted(
        (item for item in tables.items() if item[0].base == number), key=lambda item: (-len(item[1]), item[0])
    )
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


def page(tables: Mapping[Heading, Mapping[str, Sequence[Run]]]) -> str:
    """The whole page: FVNets as they are now, the time constants, and former FVNets."""
    now = [number for number, base in enumerate(BASES) if not base.former]
    parts = [INTRODUCTION, *(line for number in now for line in section(number, tables))]
    if TIME_CONSTANTS.exists():
        parts += [MOVED, *time_constants(json.loads(TIME_CONSTANTS.read_text(encoding="utf-8"))), ""]
    parts += [PICTURES, former_sizes()]
    parts += [line for number in range(len(BASES)) if number not in now for line in section(number, tables)]
    return "\n".join(parts).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="The page of FVNet's ablations, from code and run records.")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--records", nargs="+", type=Path, default=RUNS, metavar="DIR", help="of run records")
    arguments = parser.parse_args()
    try:
        text = page(read_runs(arguments.records))
    except UserError as error:
        sys.exit(f"error: {error}")
    if not arguments.write:
        print(text)
        return
    with replacing(PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
