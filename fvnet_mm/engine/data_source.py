"""Which data a run reads: a generated set, a folder that the user names, or what the config says; checked first."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dist import barrier, is_main_process
from rich.progress import Progress

from fvnet_mm.data.coco_check import BadImage, check_annotations, find_bad_images, without_images
from fvnet_mm.data.coco_document import CocoDocuments
from fvnet_mm.data.coco_layout import CocoFolder, CocoSplit, as_split, find_coco
from fvnet_mm.engine.config import innermost_dataset
from fvnet_mm.engine.demo import make_demo_data, scale_down
from fvnet_mm.errors import UserError


@dataclass(frozen=True)
class DataSource:
    """Checked data of a run.

    Attributes:
        label: 'demo', or the folder's name.
        folder: Classes and splits as they are used.
        skipped: Undecodable images that were left out, in all splits.
        unused: Objects of each split that mmdet leaves out: thinner than a pixel, or outside their image.
    """

    label: str
    folder: CocoFolder
    skipped: tuple[BadImage, ...]
    unused: dict[str, int]


def select_data(cfg: Config, arguments: argparse.Namespace, names: Sequence[str] = ("train", "val")) -> DataSource:
    """Points a config at the data that a command line asks for, and checks every file of it.

    Args:
        cfg: Changed in place.
        arguments: The command line.
        names: The splits that the run reads.

    Raises:
        UserError: The data is missing, its layout or annotations are wrong, or images cannot be decoded and
            ``--skip-bad-images`` was not given.
    """
    if not is_main_process():
        barrier()  # the main process generates, decodes and caches first
    work_dir = Path(cfg.work_dir)
    documents = CocoDocuments()
    if arguments.demo:
        folder, label = find_coco(make_demo_data(work_dir), documents, names), "demo"
        scale_down(cfg)
    elif arguments.data is not None:
        folder, label = find_coco(arguments.data, documents, names), arguments.data.resolve().name
    else:
        folder = _configured_folder(cfg, documents, names)
        label = folder.root.name
    source = _check(label, folder, documents, work_dir, arguments.skip_bad_images)
    if arguments.demo or arguments.data is not None or source.skipped:
        use_coco_folder(cfg, source.folder)
    if is_main_process():
        barrier()
    return source


def _configured_folder(cfg: Config, documents: CocoDocuments, names: Sequence[str]) -> CocoFolder:
    """The files that a config names itself."""
    splits: dict[str, CocoSplit] = {}
    for name in names:
        dataset = innermost_dataset(cfg[f"{name}_dataloader"].dataset)
        root = Path(dataset.get("data_root") or "")
        annotation_file, image_dir = root / dataset.ann_file, root / dataset.data_prefix.img
        for path in (annotation_file, image_dir):
            if not path.exists():
                raise UserError(
                    f"there is no data in {root}: {path} does not exist, where the config expects COCO 2017 "
                    "(annotations/instances_train2017.json and instances_val2017.json, train2017/, val2017/); put it "
                    "there, name another folder with --data DIR, or try --demo, which generates a small set."
                )
        document = documents.read(annotation_file)
        splits[name] = as_split(name, annotation_file, image_dir, document)
    classes = dataset.get("metainfo", {}).get("classes") or [category["name"] for category in document.categories]
    return CocoFolder(root, tuple(classes), splits.get("train"), splits["val"])


def _check(label: str, folder: CocoFolder, documents: CocoDocuments, work_dir: Path, skip: bool) -> DataSource:
    splits: dict[str, CocoSplit] = {}
    skipped: list[BadImage] = []
    unused: dict[str, int] = {}
    for split in filter(None, (folder.train, folder.val)):
        counts = check_annotations(split, documents)
        unused[split.name] = counts.skipped_boxes
        if counts.skipped_boxes == split.annotation_count:
            raise UserError(
                f"no object of {split.annotation_file} can be used: all {split.annotation_count} are thinner than a "
                "pixel or outside their image; boxes are [x, y, width, height] in pixels."
            )
        with Progress(disable=not sys.stdout.isatty(), transient=True) as progress:
            task = progress.add_task(f"checking {split.name} images")
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
            good = work_dir / f"instances_{split.name}_without_bad_images.json"
            split = without_images(split, bad, good, documents)
        splits[split.name] = split
        skipped += bad
    return DataSource(label, replace(folder, **splits), tuple(skipped), unused)


def use_coco_folder(cfg: Config, folder: CocoFolder) -> None:
    """Writes a folder's files and classes into the loaders, evaluators and heads of a detection config."""
    for key, split in (("train", folder.train), ("val", folder.val), ("test", folder.val)):
        if split is None:
            continue
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
