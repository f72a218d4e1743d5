"""Classification of images in class folders, as ImageNet-1k has them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mmengine.config import Config

from fvnet_mm.data.class_shapes import write_class_shapes
from fvnet_mm.data.image_check import BadImage
from fvnet_mm.data.image_folder import (
    ImageFolder,
    ImageFolderSplit,
    find_bad_images,
    find_image_folder,
    listed,
    without_images,
)
from fvnet_mm.engine.config_file import innermost_dataset
from fvnet_mm.engine.tasks.base import (
    DataSplit,
    Task,
    as_list,
    data_sets,
    evaluators,
    scale_images,
    set_num_classes,
    shorten_epochs,
)
from fvnet_mm.errors import UserError

IMAGE_SIZE = (96, 96)
BATCH = 16
EPOCHS = 8
LEARNING_RATE = 1e-3
MAX_GRADIENT_NORM = 5.0


class Classification(Task):
    """One class for an image."""

    demo_images = (480, 96)

    def make_demo_data(self, folder: Path) -> Path:
        return write_class_shapes(folder, *self.demo_images, IMAGE_SIZE)

    def find(self, root: Path, names: Sequence[str]) -> ImageFolder:
        return find_image_folder(root, names)

    def configured(self, cfg: Config, names: Sequence[str]) -> ImageFolder:
        roots: dict[str, Path] = {}
        folders: dict[str, str] = {}
        for name in names:
            dataset = innermost_dataset(cfg[f"{name}_dataloader"].dataset)
            folder = _image_dir(cfg, name)
            own = folder.is_dir() and folder != Path(dataset.get("data_root") or "")  # perhaps not called as the split
            root = roots[name] = folder.parent if folder.name == name or own else folder
            if not root.is_dir():
                raise UserError(
                    f"there is no data in {root}, where the config expects ImageNet-1k (train/ and val/, a folder for "
                    "each class in both); put it there, name another folder with --data DIR, or try --demo, which "
                    "generates a small set."
                )
            if own:
                folders[name] = folder.name
        if len(set(roots.values())) > 1:
            raise UserError(
                f"the images of training and evaluation are in {' and '.join(map(str, roots.values()))}; put both into "
                "one folder (links will do) and name it as data_root."
            )
        found = find_image_folder(root, names, folders)
        lists = {name: file for name in names if (file := _list_file(cfg, name))}
        return replace(found, **{name: listed(getattr(found, name), file) for name, file in lists.items()})

    def _find_bad(self, split: ImageFolderSplit, progress: Callable[[int, int], None]) -> list[BadImage]:
        return find_bad_images(split, progress)

    def _without(self, split: ImageFolderSplit, bad: Sequence[BadImage], work_dir: Path) -> ImageFolderSplit:
        return without_images(split, bad, work_dir / f"{split.name}_without_bad_images.txt")

    def _describe(self, cfg: Config, split: ImageFolderSplit, classes: Sequence[str]) -> DataSplit:
        ignored = f" ({split.ignored_files} other files ignored)" if split.ignored_files else ""
        return DataSplit(split.name, split.image_count, f"{split.image_count} images, {split.image_dir}{ignored}")

    def use(self, cfg: Config, folder: ImageFolder) -> None:
        known = cfg.model.head.num_classes
        if "teacher" in cfg.model and len(folder.classes) != known:
            raise UserError(
                f"{cfg.config_name} learns from a teacher of {known} classes, and {folder.root} has "
                f"{len(folder.classes)}; use the config without '_distilled'."
            )
        for dataset, split in data_sets(cfg, folder):
            if not any(transform["type"].endswith("LoadImageFromFile") for transform in dataset.pipeline):
                raise UserError(
                    f"{cfg.filename} reads a {dataset.type}, which holds no image files; use a config that reads "
                    "class folders, such as those of ImageNet-1k."
                )
            # mmpretrain's ImageNet takes no classes but its own.
            dataset.type = "CustomDataset"
            dataset.pop("split", None)
            dataset.data_root = ""
            dataset.data_prefix = str(split.image_dir.resolve())
            dataset.ann_file = str(split.annotation_file.resolve()) if split.annotation_file else ""
            dataset.with_label = True
            dataset.metainfo = dict(classes=folder.classes)
        for evaluator in evaluators(cfg):
            if "topk" in evaluator:
                fitting = tuple(k for k in as_list(evaluator.topk) if k <= len(folder.classes)) or (1,)
                evaluator.topk = fitting[0] if isinstance(evaluator.topk, int) else fitting
        # Also of the preprocessor, which writes the labels of mixed images.
        set_num_classes(cfg.model, len(folder.classes))

    def scale_down(self, cfg: Config) -> None:
        """No mixing of images and a low rate of change: hundreds of steps, not hundreds of thousands."""
        cfg.model.train_cfg = dict()
        scale_images(cfg, IMAGE_SIZE)
        shorten_epochs(cfg, EPOCHS, self.demo_images[0] // BATCH, BATCH)
        cfg.optim_wrapper.optimizer.lr = LEARNING_RATE
        cfg.optim_wrapper.clip_grad = dict(max_norm=MAX_GRADIENT_NORM)

    def keep_predictions(self, cfg: Config, place: Path) -> None:
        for key in ("val", "test"):
            if cfg.get(f"{key}_evaluator") and cfg.get(f"{key}_dataloader"):
                own = [metric for metric in as_list(cfg[f"{key}_evaluator"]) if metric["type"] != "SavedPredictions"]
                saved = dict(type="SavedPredictions", out_file=f"{place}.json", image_dir=str(_image_dir(cfg, key)))
                cfg[f"{key}_evaluator"] = [*own, saved]


def _list_file(cfg: Config, name: str) -> Path | None:
    """The list of images that a split's data set reads; None if it takes all that are in its class folders."""
    dataset = innermost_dataset(cfg[f"{name}_dataloader"].dataset)
    root = Path(dataset.get("data_root") or "")
    if dataset.get("ann_file"):
        return root / dataset.ann_file
    usual = root / "meta" / f"{dataset.get('split')}.txt"  # mmpretrain's ImageNet takes it where it is there
    return usual if dataset.get("split") and usual.is_file() else None


def _image_dir(cfg: Config, name: str) -> Path:
    """Where the images of a split are, as far as the config says."""
    dataset = innermost_dataset(cfg[f"{name}_dataloader"].dataset)
    prefix = dataset.get("data_prefix") or dataset.get("split") or ""
    return Path(dataset.get("data_root") or "", prefix["img_path"] if isinstance(prefix, dict) else prefix)
