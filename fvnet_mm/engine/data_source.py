"""Which data a run reads: a generated set, a folder that the user names, or what the config says; checked first."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, is_main_process

from fvnet_mm.engine.config_file import innermost_dataset
from fvnet_mm.engine.tasks import DataSource, DataSplit, task_of
from fvnet_mm.errors import UserError
from fvnet_mm.records.words import dataset_layers, name_of


def select_data(cfg: Config, arguments: argparse.Namespace, names: Sequence[str] = ("train", "val")) -> DataSource:
    """Points a config at the data that a command line asks for, and checks every file of it.

    Args:
        cfg: Changed in place.
        arguments: The command line.
        names: The splits that the run reads.

    Raises:
        UserError: The data is missing, its layout or annotations are wrong, images cannot be decoded and
            ``--skip-bad-images`` was not given, or an evaluation would leave some out.
    """
    if not is_main_process():
        barrier()  # the main process generates, decodes and caches first
    task = task_of(cfg)
    require_whole(cfg)
    if arguments.demo:
        folder, label = task.find(task.make_demo_data(demo_folder(Path(cfg.work_dir))), names), "demo"
        task.scale_down(cfg)
    elif arguments.data is not None:
        folder, label = task.find(arguments.data, names), arguments.data.resolve().name
    else:
        folder = task.configured(cfg, names)
        label = folder.root.name
    source = task.check(cfg, label, folder, arguments.skip_bad_images)
    if arguments.demo or arguments.data is not None or source.skipped:
        task.use(cfg, source.folder)
    if is_main_process():
        barrier()
    return source


def require_whole(cfg: Config) -> None:
    """Makes certain that every validation image is evaluated: figures and comparisons are over all that are annotated.

    Raises:
        UserError: The loader is to leave some out.
    """
    loader = cfg.val_dataloader
    cut = {
        "dataset.indices": innermost_dataset(loader.dataset).get("indices"),
        "num_batch_per_epoch": loader.get("num_batch_per_epoch"),
    }
    found = [key for key, value in cut.items() if value is not None]
    if found:
        raise UserError(
            f"the evaluation's {found[0]} would leave out images whose objects count as missed; leave it away, and to "
            "evaluate on fewer images give a folder, or an annotation file, that holds no others."
        )


def used_images(cfg: Config, images: int) -> int:
    """Of the training images those that the loader's data set takes by its ``indices``: mmengine's, a number or a list.

    Raises:
        UserError: They are neither, or take none; or the loader is to end an epoch early.
    """
    if cfg.train_dataloader.get("num_batch_per_epoch") is not None:
        raise UserError(
            "train_dataloader.num_batch_per_epoch would leave out images, and the record would not know which; set "
            "train_dataloader.dataset.indices to the number of images to use."
        )
    indices = innermost_dataset(cfg.train_dataloader.dataset).get("indices")
    if indices is None:
        return images
    if isinstance(indices, int):  # so many of the first images, a negative number of the last
        used = min(abs(indices), images)
    else:
        used = len(indices) if isinstance(indices, Sequence) and not isinstance(indices, str) else 0
    if used == 0:
        raise UserError(
            f"train_dataloader.dataset.indices is {indices!r}, which takes no image; give a number or a list of them."
        )
    return used


def images_per_epoch(cfg: Config, split: DataSplit) -> int:
    """How many images the training's loader reads in an epoch: :func:`trained_images`, each as often as repeated."""
    return trained_images(cfg, split) * repetitions(cfg)


def repetitions(cfg: Config) -> int:
    """How many times an epoch reads each training image, by wrappers such as ``RepeatDataset``."""
    layers = dataset_layers(cfg.train_dataloader.dataset)
    return math.prod(layer.get("times", 1) for layer in layers if name_of(layer) == "RepeatDataset")


def trained_images(cfg: Config, split: DataSplit) -> int:
    """Images of a checked training split that are trained on, after the data set's filter and its ``indices``.

    Raises:
        UserError: As :func:`used_images`.
    """
    return used_images(cfg, split.images - split.filtered)


def demo_folder(work_dir: Path) -> Path:
    """Where a demo generates its data; what a work dir holds was made by a demo if this is there."""
    return work_dir / "demo_data"
