"""What the kinds of tasks have in common: data that is found, checked and written into a config."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mmengine.config import Config, ConfigDict
from rich.progress import Progress

from fvnet_mm.data.ade20k_layout import Ade20kFolder, Ade20kSplit
from fvnet_mm.data.coco_layout import CocoFolder, CocoSplit
from fvnet_mm.data.image_check import BadImage
from fvnet_mm.data.image_folder import ImageFolder, ImageFolderSplit
from fvnet_mm.engine.config_file import innermost_dataset
from fvnet_mm.errors import UserError

Folder = CocoFolder | Ade20kFolder | ImageFolder
Split = CocoSplit | Ade20kSplit | ImageFolderSplit


@dataclass(frozen=True)
class DataSplit:
    """A checked split.

    Attributes:
        name: 'train' or 'val'.
        images: Their number.
        summary: A line about it for the start screen.
        filtered: How many of the images the data set's own filter drops.
        warnings: What is odd about it but no mistake.
    """

    name: str
    images: int
    summary: str
    filtered: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSource:
    """Checked data of a run.

    Attributes:
        label: 'demo', or the folder's name.
        folder: Classes and splits as they are used.
        splits: What the start screen says of them.
        skipped: Undecodable images that were left out, in all splits, and why.
    """

    label: str
    folder: Folder
    splits: tuple[DataSplit, ...]
    skipped: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """Those of all splits."""
        return [warning for split in self.splits for warning in split.warnings]

    def split(self, name: str) -> DataSplit:
        """A split by its name."""
        return next(split for split in self.splits if split.name == name)


class Task(ABC):
    """A kind of task: the layout of its data, its demo, and how both are written into a config."""

    demo_images: tuple[int, int]
    """Training and validation images of the demo."""

    decoded = "images"
    """What of a split is decoded to be checked."""

    @abstractmethod
    def make_demo_data(self, folder: Path) -> Path:
        """Generates the demo's data set, or finds it there."""

    @abstractmethod
    def find(self, root: Path, names: Sequence[str]) -> Folder:
        """Finds the splits of a folder that the user names.

        Raises:
            UserError: Something is missing or has another layout.
        """

    @abstractmethod
    def configured(self, cfg: Config, names: Sequence[str]) -> Folder:
        """Finds the splits that the config names itself.

        Raises:
            UserError: They are not there.
        """

    def check(self, cfg: Config, label: str, folder: Folder, skip_bad: bool) -> DataSource:
        """Checks every file of a folder, and leaves out what cannot be decoded if ``skip_bad``.

        Raises:
            UserError: Annotations are wrong, or images cannot be decoded and are not to be left out.
        """
        used: dict[str, Split] = {}
        checked: list[DataSplit] = []
        skipped: list[str] = []
        for split in filter(None, (folder.train, folder.val)):
            with _progress_bar(f"checking {split.name} images") as progress:
                bad = self._find_bad(split, progress)
            if bad and not skip_bad:
                raise UserError(
                    f"{len(bad)} of {split.image_count} {self.decoded} in {split.image_dir} cannot be used: "
                    f"{'; '.join(map(str, bad[:3]))}; mend or remove them, or leave them out with --skip-bad-images."
                )
            if bad:
                split = self._without(split, bad, Path(cfg.work_dir))
            skipped += map(str, bad)
            used[split.name] = split
            checked.append(self._describe(cfg, split, folder.classes))
        return DataSource(label, replace(folder, **used), tuple(checked), tuple(skipped))

    @abstractmethod
    def _find_bad(self, split: Split, progress: Callable[[int, int], None]) -> list[BadImage]:
        """Checks a split's annotations, and names the images that cannot be decoded."""

    @abstractmethod
    def _without(self, split: Split, bad: Sequence[BadImage], work_dir: Path) -> Split:
        """A split without some of its images; the list of the others goes into ``work_dir``."""

    @abstractmethod
    def _describe(self, cfg: Config, split: Split, classes: Sequence[str]) -> DataSplit:
        """What there is to say of a split whose files are sound."""

    def filtered(self, cfg: Config, folder: Folder) -> int:
        """How many of a folder's training images the data set's own filter drops; most have none."""
        return 0

    @abstractmethod
    def use(self, cfg: Config, folder: Folder) -> None:
        """Writes a folder's files and classes into the loaders, evaluators and heads of a config."""

    @abstractmethod
    def scale_down(self, cfg: Config) -> None:
        """Scales a config's images, schedule and batch down to the demo's; model and losses stay what they are."""

    @abstractmethod
    def keep_predictions(self, cfg: Config, place: Path) -> None:
        """Makes the evaluators of a config write the predictions of the last evaluation to ``place`` (no suffix).

        Where the suite has a faster equal of a data set or an evaluator, it takes the other's place.
        """


def evaluators(cfg: Config) -> Iterator[ConfigDict]:
    """The evaluator configs of validation and test, as far as there are any."""
    for part in ("val_evaluator", "test_evaluator"):
        if cfg.get(part):
            yield from as_list(cfg[part])


def data_sets(cfg: Config, folder: Folder) -> Iterator[tuple[ConfigDict, Split]]:
    """The data sets of a config's loaders, as far as there are any, and the split of a folder that is each one's."""
    for name, split in (("train", folder.train), ("val", folder.val), ("test", folder.val)):
        loader = cfg.get(f"{name}_dataloader")
        if split is not None and loader:
            yield innermost_dataset(loader.dataset), split


def as_list(value: object) -> list:
    """A list or tuple as a list, anything else as a list of it alone."""
    return list(value) if isinstance(value, list | tuple) else [value]


def scale_images(cfg: Config, size: tuple[int, int]) -> None:
    """Sets the (width, height) that every pipeline of a config brings its images to."""
    width, height = size
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for transform in innermost_dataset(cfg[loader].dataset).pipeline if cfg.get(loader) else ():
            match transform["type"].rpartition(".")[2]:
                case "Resize" | "RandomResize":
                    transform["scale"] = size
                case "RandomCrop" | "CenterCrop":
                    transform["crop_size"] = (height, width)
                case "RandomResizedCrop":
                    transform["scale"] = (height, width)
                case "ResizeEdge":
                    transform["scale"] = min(size)
    preprocessor = cfg.model.get("data_preprocessor") or {}
    if "size" in preprocessor:
        preprocessor.size = (height, width)


def shorten_epochs(cfg: Config, epochs: int, iterations: int, batch_size: int) -> None:
    """Makes a schedule of a few short epochs: a warm-up over the first, a cosine over the others, two evaluations."""
    cfg.train_dataloader.batch_size = cfg.val_dataloader.batch_size = batch_size
    cfg.auto_scale_lr = dict(enable=False, base_batch_size=batch_size)
    cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval = epochs, epochs // 2
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=iterations),
        dict(type="CosineAnnealingLR", by_epoch=True, begin=1, end=epochs, convert_to_iter_based=True),
    ]
    set_interval(cfg, "logger", iterations // 2)


def set_interval(cfg: Config, hook: str, interval: int) -> None:
    """Sets how often one of a config's ``default_hooks`` acts, if it has it."""
    settings = (cfg.get("default_hooks") or {}).get(hook)
    if settings:
        settings.interval = interval


def how_to_get(cfg: Config, otherwise: str) -> str:
    """What to do about missing data: run the command that the config names, or else what ``otherwise`` says."""
    return f"make it with `{cfg.made_with}`" if "made_with" in cfg else otherwise


def set_num_classes(model: ConfigDict, count: int) -> None:
    """Sets ``num_classes`` wherever the heads of a model config have it; the backbone's own is left alone."""
    for key, value in model.items():
        if key == "num_classes":
            model[key] = count
        elif key != "backbone":
            for part in as_list(value):
                if isinstance(part, dict):
                    set_num_classes(part, count)


@contextmanager
def _progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, moved by calls with (done, total)."""
    with Progress(disable=not sys.stdout.isatty(), transient=True) as progress:
        task = progress.add_task(description)
        yield lambda done, total: progress.update(task, completed=done, total=total)
