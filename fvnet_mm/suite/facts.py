"""What a job's training will do, told from its config before it runs: images, evaluations, checkpoints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from fvnet_mm.cli import tool_parser
from fvnet_mm.data.published_sets import ADE20K, COCO, IMAGENET, IMAGES
from fvnet_mm.engine.batch import plan_batch
from fvnet_mm.engine.config import load_config
from fvnet_mm.engine.config_file import apply_overrides, innermost_dataset
from fvnet_mm.engine.data_source import images_per_epoch, require_whole
from fvnet_mm.engine.tasks import task_of
from fvnet_mm.engine.tasks.base import DataSplit, Task
from fvnet_mm.errors import UserError
from fvnet_mm.records.from_config import framework_of
from fvnet_mm.records.words import dataset_layers, name_of
from fvnet_mm.suite.jobs import Job
from fvnet_mm.suite.schema import DEMO, OWN


@dataclass(frozen=True)
class Benchmark:
    """A data set that configs of the suite name, and the places of its training and validation images."""

    name: str
    places: tuple[set[str], set[str]]


_COCO, _ADE20K, _IMAGENET = "data/coco", "data/ade/ADEChallengeData2016", "data/imagenet"

BENCHMARKS = {
    "Detection": Benchmark(
        COCO,
        (
            {f"{_COCO}/annotations/instances_train2017.json", f"{_COCO}/train2017"},
            {f"{_COCO}/annotations/instances_val2017.json", f"{_COCO}/val2017"},
        ),
    ),
    "Segmentation": Benchmark(
        ADE20K,
        (
            {f"{_ADE20K}/images/training", f"{_ADE20K}/annotations/training"},
            {f"{_ADE20K}/images/validation", f"{_ADE20K}/annotations/validation"},
        ),
    ),
    "Classification": Benchmark(IMAGENET, ({f"{_IMAGENET}/train"}, {f"{_IMAGENET}/val"})),
}
"""By task."""


@dataclass(frozen=True)
class Facts:
    """What a training does.

    Attributes:
        task: Name of its task's class.
        framework: As in the protocol.
        assumed: The benchmark whose number of images is taken, since it is not here; else None.
        data_set: Key in the config of the innermost training data set.
        repeated: Keys of the wrappers around it that repeat its images.
        set_images: Training images of that set, whether or not the job takes all of them.
        trained_images: Forward passes of single images, over the whole training.
        evaluated_images: The same of all evaluations together.
        val_images: Of one evaluation.
        batch: Images of one forward pass in training.
        val_batch: The same in an evaluation.
        by_epoch: Whether the schedule counts epochs.
        workers: Processes that load training images.
        checkpoints: Files that lie there at once, at most.
        digest: Of the resolved config and of everything in the settings, but for seed and places.
    """

    task: str
    framework: str
    assumed: str | None
    data_set: str
    repeated: tuple[str, ...]
    set_images: int
    trained_images: int
    evaluated_images: int
    val_images: int
    batch: int
    val_batch: int
    by_epoch: bool
    workers: int
    checkpoints: int
    digest: str


def load(job: Job) -> tuple[Config, Task]:
    """The config of a job, with its trunk and options, and its task.

    Raises:
        UserError: It cannot be read, or an option cannot be applied.
    """
    # The flags that only training has change neither schedule nor data.
    arguments, _ = tool_parser("").parse_known_args(job.words())
    cfg = load_config(arguments)
    return cfg, task_of(cfg)


def count_images(job: Job, cfg: Config, task: Task) -> tuple[DataSplit, int]:
    """The training split of a job's data, with what its filter drops, and the number of validation images.

    Raises:
        UserError: The data is not there or has another layout.
    """
    if job.data == DEMO:  # which is not generated yet
        train, val = task.demo_images
        return DataSplit("train", train, ""), val
    names = ("train", "val")
    folder = task.configured(cfg, names) if job.data == OWN else task.find(job.data, names)
    return DataSplit("train", folder.train.image_count, "", task.filtered(cfg, folder)), folder.val.image_count


def data_of(job: Job, cfg: Config, task: Task) -> tuple[str, str]:
    """What two jobs have in common if they read the same images: the task, and a folder and its filter or what the
    config names.

    Raises:
        UserError: The config joins several data sets.
    """
    used = [innermost_dataset(cfg[f"{name}_dataloader"].dataset) for name in ("train", "val")]
    if job.data == OWN:  # by what the config and the job's options say in the end, not by the config's name
        said = [{key: value for key, value in dataset.items() if key != "pipeline"} for dataset in used]
    else:
        said = [job.data, used[0].get("filter_cfg")]
    return type(task).__name__, json.dumps(said, sort_keys=True, default=str)


def facts_of(job: Job, counted: dict[tuple[str, str], tuple[DataSplit, int]]) -> Facts:
    """Tells what a job's training will do on one device.

    Args:
        job: Of a suite.
        counted: Images that were counted before, by :func:`data_of`; is added to.

    Raises:
        UserError: The config is wrong, or what it or the job names has no data, but for a benchmark that is not here,
            or takes none of it.
    """
    cfg, task = load(job)
    kind = type(task).__name__
    assumed = None
    try:
        if (data := data_of(job, cfg, task)) not in counted:
            counted[data] = count_images(job, cfg, task)
        train, val_images = counted[data]
    except UserError:
        benchmark = BENCHMARKS[kind]
        if job.data != OWN or not _is_absent(benchmark, cfg):
            raise
        assumed, (images, val_images) = benchmark.name, IMAGES[benchmark.name]
        train = DataSplit("train", images, "")
    if job.data == DEMO:
        task.scale_down(cfg)
        apply_overrides(cfg, list(job.settings.cfg_options))
    require_whole(cfg)
    train_images = images_per_epoch(cfg, train)
    digest = _digest(cfg, job)
    workers = cfg.train_dataloader.get("num_workers", 0)
    plan = plan_batch(cfg, train_images, world_size=1, auto_scale_lr=job.settings.auto_scale_lr)
    by_epoch = cfg.train_cfg.get("max_iters") is None
    length = cfg.train_cfg.max_epochs if by_epoch else cfg.train_cfg.max_iters
    evaluations = _times(cfg.train_cfg.get("val_interval", 1), length) + (job.data == DEMO)
    saving = cfg.default_hooks.checkpoint
    written = _times(saving.get("interval", 1), length)
    kept = saving.get("max_keep_ckpts", -1)
    layers = dataset_layers(cfg.train_dataloader.dataset)
    keys = ["train_dataloader" + ".dataset" * depth for depth in range(1, len(layers) + 1)]
    return Facts(
        task=kind,
        framework=framework_of(cfg.model),
        assumed=assumed,
        data_set=keys[-1],
        repeated=tuple(key for key, layer in zip(keys, layers, strict=True) if name_of(layer) == "RepeatDataset"),
        set_images=train.images,
        trained_images=length * train_images if by_epoch else plan.steps * plan.effective,
        evaluated_images=evaluations * val_images,
        val_images=val_images,
        batch=plan.per_device,
        val_batch=cfg.val_dataloader.get("batch_size", 1),
        by_epoch=by_epoch,
        workers=workers,
        checkpoints=written if kept < 1 else min(written, kept + 1),  # the new one comes before the oldest goes
        digest=digest,
    )


def _is_absent(benchmark: Benchmark, cfg: Config) -> bool:
    """Whether a config names a benchmark's own files, and some of them are not here."""
    named = [_places(innermost_dataset(cfg[f"{name}_dataloader"].dataset)) for name in ("train", "val")]
    files = [set(map(Path, places)) for places in benchmark.places]
    return named == files and not all(path.exists() for path in set.union(*files))


def _places(dataset: Mapping[str, object]) -> set[Path]:
    """The files and folders that a data set's config names."""
    prefix = dataset.get("data_prefix") or ""
    folders = prefix.values() if isinstance(prefix, Mapping) else [prefix]
    parts = [dataset.get("ann_file"), dataset.get("split"), *folders]
    return {Path(dataset.get("data_root") or "", part) for part in parts if part}


def _times(interval: int, length: int) -> int:
    """How often something happens that happens every ``interval`` and at the end."""
    return -(-length // interval)


def _digest(cfg: Config, job: Job) -> str:
    settings = cfg.to_dict()
    for place in ("work_dir", "experiment_name", "randomness", "load_from", "weights"):
        settings.pop(place, None)
    flags = {name: value for name, value in job.definition().items() if name not in ("seed", "weights", "scratch")}
    text = json.dumps([settings, flags], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
