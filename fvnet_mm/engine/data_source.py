"""Which data a run reads: a generated set, a folder that the user names, or what the config says; checked first."""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dist import barrier, is_main_process
from rich.progress import Progress

from fvnet_mm.data.coco_check import BadImage, check_annotations, find_bad_images, without_images
from fvnet_mm.data.coco_document import CocoDocuments
from fvnet_mm.data.coco_layout import CocoFolder, CocoSplit, find_coco
from fvnet_mm.engine.config import innermost_dataset
from fvnet_mm.engine.demo import make_demo_data, scale_down
from fvnet_mm.errors import UserError


@dataclass(frozen=True)
class DataSource:
    """Checked data of a run.

    Attributes:
        label: 'demo', or the folder's name.
        folder: Classes and splits as they are used.
        skipped: Undecodable images that were left out, in both splits.
    """

    label: str
    folder: CocoFolder
    skipped: tuple[BadImage, ...]


def select_data(cfg: Config, arguments: argparse.Namespace) -> DataSource:
    """Points a config at the data that a command line asks for, and checks every file of it.

    Raises:
        UserError: The data is missing, its layout or annotations are wrong, or images cannot be decoded and
            ``--skip-bad-images`` was not given.
    """
    if not is_main_process():
        barrier()  # the main process generates, decodes and caches first
    work_dir = Path(cfg.work_dir)
    if arguments.demo:
        root, label = make_demo_data(work_dir), "demo"
        scale_down(cfg)
    elif arguments.data is not None:
        root, label = arguments.data, arguments.data.resolve().name
    else:
        root = _configured_root(cfg)
        label = root.name
    documents = CocoDocuments()
    folder = find_coco(root, documents)
    folder, skipped = _check(folder, documents, work_dir, arguments.skip_bad_images)
    if arguments.demo or arguments.data is not None or skipped:
        use_coco_folder(cfg, folder)
    if is_main_process():
        barrier()
    return DataSource(label, folder, skipped)


def _configured_root(cfg: Config) -> Path:
    dataset = innermost_dataset(cfg.train_dataloader.dataset)
    root = Path(dataset.data_root)
    if not root.is_dir():
        raise UserError(
            f"there is no data in {root}: COCO 2017 is expected there ({dataset.ann_file}, train2017/, "
            "annotations/instances_val2017.json, val2017/); put it there, name another folder with --data DIR, "
            "or try --demo, which generates a small set."
        )
    return root


def _check(
    folder: CocoFolder, documents: CocoDocuments, work_dir: Path, skip: bool
) -> tuple[CocoFolder, tuple[BadImage, ...]]:
    splits: dict[str, CocoSplit] = {}
    skipped: list[BadImage] = []
    for name in ("train", "val"):
        split = getattr(folder, name)
        check_annotations(split, documents)
        with Progress(disable=not sys.stdout.isatty(), transient=True) as progress:
            task = progress.add_task(f"checking {name} images")
            bad = find_bad_images(
                split, lambda done, total, task=task: progress.update(task, completed=done, total=total), documents
            )
        if bad and not skip:
            first = "; ".join(f"{image.file_name} ({image.reason})" for image in bad[:3])
            raise UserError(
                f"{len(bad)} of {split.image_count} images in {split.image_dir} cannot be used: {first}; "
                "mend or remove them, or leave them out with --skip-bad-images."
            )
        if bad:
            good = work_dir / f"instances_{name}_without_bad_images.json"
            split = without_images(split, bad, good, documents)
        splits[name] = split
        skipped += bad
    return replace(folder, **splits), tuple(skipped)


def use_coco_folder(cfg: Config, folder: CocoFolder) -> None:
    """Writes a folder's files and classes into the loaders, evaluators and heads of a detection config."""
    for key, split in (("train", folder.train), ("val", folder.val), ("test", folder.val)):
        dataset = innermost_dataset(cfg[f"{key}_dataloader"].dataset)
        dataset.data_root = ""
        dataset.ann_file = str(split.annotation_file.resolve())
        dataset.data_prefix = dict(img=f"{split.image_dir.resolve()}/")
        dataset.metainfo = dict(classes=folder.classes)
        if key != "train":
            cfg[f"{key}_evaluator"].ann_file = dataset.ann_file
    set_num_classes(cfg.model, len(folder.classes))


def set_num_classes(model: ConfigDict, count: int) -> None:
    """Sets ``num_classes`` wherever the heads of a model config have it; the backbone's own is left alone."""
    for key, value in model.items():
        if key == "num_classes":
            model[key] = count
        elif key != "backbone":
            for part in value if isinstance(value, list | tuple) else [value]:
                if isinstance(part, dict):
                    set_num_classes(part, count)
