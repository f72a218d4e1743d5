"""Two models compared from the predictions that their records keep: paired, over images and over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fvnet_mm.report.statistics.comparison import Comparison, Difference
from fvnet_mm.report.statistics.predictions import CLASS_METRICS, Progress, read_predictions
from fvnet_mm.report.statistics.resampling import FEWEST_IMAGES, Values, interval_of, paired_bootstrap
from fvnet_mm.report.statistics.runs import Run, check_comparable
from fvnet_mm.report.statistics.seeds import SeedTest, decide, joint_interval, welch

_ROUNDING = 0.1  # points by which a record may differ from its predictions: mmdet's own metric rounds to tenths
_FEW_IMAGES = 30


def compare_seeds(
    first: Sequence[Run],
    second: Sequence[Run],
    resamples: int = 10_000,
    seed: int = 0,
    progress: Progress | None = None,
    allow_other_protocol: bool = False,
    ground_truth: Path | None = None,
) -> Comparison:
    """Compare two models, each trained with one seed or with several.

    All differences are ``second`` minus ``first``. The intervals are of a paired bootstrap over the images, in which
    a model's metric is the mean over its runs; where there are several, Welch's test over the seeds and the joint
    interval of both stand beside them. The rules of decision are those of :mod:`fvnet_mm.report.statistics.seeds`.

    Args:
        first: Runs of one model, at least one.
        second: Runs of the other.
        resamples: Of the images.
        seed: Of their drawing.
        progress: Told what is done.
        allow_other_protocol: Compare although the protocols differ, with a note that says in what.
        ground_truth: Annotation file or folder of label maps, where it is no longer where the records say.

    Raises:
        UserError: tasks or protocols differ, the ground truth does, or predictions are missing or of other images.
    """
    runs = [*first, *second]
    notes = check_comparable(runs, allow_other_protocol)
    notes += [*_shared_seeds(first), *_shared_seeds(second)]
    metrics: list[Difference] = []
    per_class: dict[str, tuple[Difference, ...]] = {}
    for kind in runs[0].predictions:
        read = read_predictions(kind, runs, resamples, seed, ground_truth, progress)
        images = read.resamples.images
        each = [evaluation(np.ones((images, 1))) for evaluation in read.evaluations]  # of every image once
        notes += _unlike_records(runs, each)
        report = None if progress is None else lambda done, total: progress("resampling", done, total)
        models = read.evaluations[: len(first)], read.evaluations[len(first) :]
        bootstrap = paired_bootstrap(*models, read.resamples, progress=report)
        for name, differences in bootstrap.metrics.items():
            values = [float(of_run.metrics[name][0]) for of_run in each]
            metrics.append(_difference(name, values[: len(first)], values[len(first) :], differences, images))
        values = np.stack([of_run.per_class[:, 0] for of_run in each], axis=1)
        per_class[CLASS_METRICS[kind]] = tuple(
            _difference(name, of_class[: len(first)], of_class[len(first) :], differences, images, is_class=True)
            for name, of_class, differences in zip(read.classes, values, bootstrap.per_class, strict=True)
        )
    if images < FEWEST_IMAGES:
        few = f"{images} images are" if images > 1 else "one image is"
        notes.append(f"{few} too few for an interval, which takes {FEWEST_IMAGES}")
    elif images < _FEW_IMAGES:
        notes.append(f"{images} images are few: the intervals over them are narrower than they should be")
    names = _names(first, second)
    return Comparison(
        first=names[0],
        second=names[1],
        runs=(len(first), len(second)),
        images=images,
        resamples=resamples,
        seed=seed,
        metrics=tuple(metrics),
        per_class=per_class,
        notes=tuple(notes),
    )


def _difference(
    name: str,
    first: Sequence[float],
    second: Sequence[float],
    resampled: np.ndarray,
    images: int,
    is_class: bool = False,
) -> Difference:
    """One metric's values of each run, NaN where not defined, with its differences on the resamples of the images."""
    means = [float(np.mean(first)), float(np.mean(second))]
    if np.isnan(means).any():
        defined = [None if np.isnan(mean) else mean for mean in means]
        return Difference(name, *defined, difference=None, interval=None, seeds=None, verdict="undefined")
    interval = interval_of(resampled) if images >= FEWEST_IMAGES else None
    seeds: SeedTest | None = None if is_class else welch(first, second)
    difference, joint = means[1] - means[0], None
    if interval is not None and seeds is not None and seeds.interval is not None:
        joint = joint_interval(difference, interval, seeds.interval)
    return Difference(name, *means, difference, interval, seeds, decide(joint or interval), joint)


def _names(first: Sequence[Run], second: Sequence[Run]) -> tuple[str, str]:
    configs = [side[0].record.config.name for side in (first, second)]
    works = [f"{side[0].record.config.name} in {side[0].folder.name}" for side in (first, second)]
    names = next((names for names in (configs, works) if names[0] != names[1]), (first[0].name, second[0].name))
    return tuple(names)


def _shared_seeds(model: Sequence[Run]) -> list[str]:
    seeds = [run.record.seed for run in model if run.record.seed is not None]
    if len(set(seeds)) == len(seeds):
        return []
    return [f"several runs of {model[0].record.config.name} have one seed, so that their spread may be too small"]


def _unlike_records(runs: Sequence[Run], values: Sequence[Values]) -> list[str]:
    """Notes on metrics that a record states and its predictions don't give."""
    notes = []
    for run, found in zip(runs, values, strict=True):
        for name, value in found.metrics.items():
            stated = run.record.result.metrics.get(name)
            if stated is not None and not abs(stated - value[0]) < _ROUNDING:
                notes.append(f"the record of {run.name} says {name} {stated:.2f}, its predictions give {value[0]:.2f}")
    return notes
