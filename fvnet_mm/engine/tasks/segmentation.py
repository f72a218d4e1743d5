"""Semantic segmentation on data in ADE20K's layout."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mmengine.config import Config

from fvnet_mm.data.ade20k_check import check_pairs, find_bad_pairs, without_pairs
from fvnet_mm.data.ade20k_layout import (
    CLASSES_FILE,
    Ade20kFolder,
    Ade20kSplit,
    as_split,
    find_ade20k,
    find_classes,
)
from fvnet_mm.data.coco_document import enumerate_offenders
from fvnet_mm.data.image_check import BadImage
from fvnet_mm.data.semantic_shapes import write_ade20k_shapes
from fvnet_mm.engine.config_file import innermost_dataset
from fvnet_mm.engine.tasks.base import (
    DataSplit,
    Task,
    data_sets,
    evaluators,
    how_to_get,
    scale_images,
    set_interval,
    set_num_classes,
    shorten_epochs,
)
from fvnet_mm.engine.tasks.dataset_facts import argument_of, known_classes, require_agreement, stated_classes
from fvnet_mm.errors import UserError

IMAGE_SIZE = (160, 160)
BATCH = 4
ITERATIONS = 256
LEARNING_RATE = 3e-4
MAX_GRADIENT_NORM = 5.0


class Segmentation(Task):
    """A class for every pixel."""

    demo_images = (256, 48)
    decoded = "images or labels"

    def make_demo_data(self, folder: Path) -> Path:
        return write_ade20k_shapes(folder, *self.demo_images, IMAGE_SIZE)

    def find(self, root: Path, names: Sequence[str]) -> Ade20kFolder:
        return find_ade20k(root, names)

    def configured(self, cfg: Config, names: Sequence[str]) -> Ade20kFolder:
        splits: dict[str, Ade20kSplit] = {}
        classes: dict[str, tuple[str, ...]] = {}
        for name in names:
            dataset = innermost_dataset(cfg[f"{name}_dataloader"].dataset)
            if not {"img_path", "seg_map_path"} <= dataset.get("data_prefix", {}).keys():
                raise UserError(
                    f"{cfg.filename} reads a {dataset.type} that is not in ADE20K's layout; name an ADE20K folder with "
                    "--data DIR."
                )
            root = Path(dataset.get("data_root") or "")
            image_dir, label_dir = (root / dataset.data_prefix[key] for key in ("img_path", "seg_map_path"))
            for path in (image_dir, label_dir):
                if not path.is_dir():
                    what_to_do = how_to_get(
                        cfg,
                        "the config expects ADE20K there (ADEChallengeData2016: images/ and annotations/, each with "
                        "training/ and validation/); put it there, name another folder with --data DIR, or try "
                        "--demo, which generates a small set",
                    )
                    raise UserError(f"there is no data in {root}: {path} does not exist; {what_to_do}.")
            list_file = root / dataset.ann_file if dataset.get("ann_file") else None
            split = as_split(name, image_dir, label_dir, list_file)
            _require_suffixes(cfg, name, split)
            splits[name] = replace(split, first_label=1 if argument_of(cfg, name, "reduce_zero_label") else 0)
            classes[name] = _classes(cfg, name, root)
        require_agreement(cfg.model, classes)
        return Ade20kFolder(root, classes["val"], splits.get("train"), splits["val"])

    def _find_bad(self, split: Ade20kSplit, progress: Callable[[int, int], None]) -> list[BadImage]:
        return find_bad_pairs(split, progress)

    def _without(self, split: Ade20kSplit, bad: Sequence[BadImage], work_dir: Path) -> Ade20kSplit:
        return without_pairs(split, bad, work_dir / f"{split.name}_without_bad_images.txt")

    def _describe(self, cfg: Config, split: Ade20kSplit, classes: Sequence[str]) -> DataSplit:
        labelled, absent = check_pairs(split, classes)
        summary = f"{split.image_count} images, {labelled:.0%} of pixels labelled, {split.image_dir}"
        warnings = []
        if split.name == "train" and absent:
            count = f"{len(absent)} of {len(classes)} classes are in no training image"
            warnings.append(f"{count}: {enumerate_offenders(absent)}")
        if split.name == "val" and (shared := split.shared_names):
            warnings.append(
                f"validation images in several folders have one name ({enumerate_offenders(shared)}), so their "
                "predictions cannot be kept, drawn or compared (leaderboard.py compare); give each another name"
            )
        return DataSplit(split.name, split.image_count, summary, warnings=tuple(warnings))

    def use(self, cfg: Config, folder: Ade20kFolder) -> None:
        for dataset, split in data_sets(cfg, folder):
            # mmseg's ADE20KDataset takes no classes but its own.
            dataset.type = "BaseSegDataset"
            dataset.data_root = ""
            dataset.data_prefix = dict(
                img_path=str(split.image_dir.resolve()), seg_map_path=str(split.label_dir.resolve())
            )
            dataset.ann_file = str(split.list_file.resolve()) if split.list_file else ""
            dataset.img_suffix, dataset.seg_map_suffix = split.image_suffix, split.label_suffix
            dataset.reduce_zero_label = split.first_label == 1
            dataset.metainfo = dict(classes=folder.classes)
        set_num_classes(cfg.model, len(folder.classes))

    def scale_down(self, cfg: Config) -> None:
        """The learning rate goes up and gradients are clipped: hundreds of steps from random weights, not tens of
        thousands from ImageNet's.
        """
        scale_images(cfg, IMAGE_SIZE)
        cfg.optim_wrapper.optimizer.lr = LEARNING_RATE
        cfg.optim_wrapper.clip_grad = dict(max_norm=MAX_GRADIENT_NORM)
        if "max_epochs" in cfg.train_cfg:
            steps = self.demo_images[0] // BATCH
            shorten_epochs(cfg, ITERATIONS // steps, steps, BATCH)
            return
        cfg.train_dataloader.batch_size = BATCH
        cfg.auto_scale_lr = dict(enable=False, base_batch_size=BATCH)
        cfg.train_cfg.max_iters = ITERATIONS
        cfg.train_cfg.val_interval = ITERATIONS // 2
        set_interval(cfg, "checkpoint", ITERATIONS // 2)
        set_interval(cfg, "logger", ITERATIONS // 8)
        warm_up = ITERATIONS // 8
        cfg.param_scheduler = [
            dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warm_up),
            dict(type="PolyLR", power=0.9, eta_min=1e-6, by_epoch=False, begin=warm_up, end=ITERATIONS),
        ]

    def keep_predictions(self, cfg: Config, place: Path) -> None:
        for evaluator in evaluators(cfg):
            evaluator.output_dir = str(place)
            if evaluator.type.removeprefix("mmseg.") == "IoUMetric":
                evaluator.type = "ConfusionIoUMetric"


def _require_suffixes(cfg: Config, name: str, split: Ade20kSplit) -> None:
    for argument, suffix in (("img_suffix", split.image_suffix), ("seg_map_suffix", split.label_suffix)):
        read = argument_of(cfg, name, argument)
        if read not in (None, suffix):
            raise UserError(
                f"{name}_dataloader's data set reads files that end in {read}, and those of {split.image_dir} and "
                f"{split.label_dir} end in {split.image_suffix} and {split.label_suffix}; write {argument}={suffix!r} "
                "into it, or name the data's folder with --data DIR."
            )


def _classes(cfg: Config, name: str, root: Path) -> tuple[str, ...]:
    """Those of ``metainfo``; where it has none or the folder has a list of its own, both have to agree."""
    stated, file = stated_classes(cfg, name), root / CLASSES_FILE
    has_list = root != Path() and file.is_file()  # without a data_root there is no folder to have one
    return known_classes(cfg, name, find_classes(root) if has_list or not stated else stated, file, subset=False)
