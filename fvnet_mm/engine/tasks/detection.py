"""Detection and instance segmentation on data in COCO's layout."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from mmengine.config import Config, ConfigDict

from fvnet_mm.data.coco_check import check_annotations, check_outlines, find_bad_images, without_images
from fvnet_mm.data.coco_index import CocoDocuments, CocoIndex
from fvnet_mm.data.coco_layout import CocoFolder, CocoSplit, as_split, find_coco
from fvnet_mm.data.image_check import BadImage
from fvnet_mm.data.shapes import write_coco_shapes
from fvnet_mm.engine.coco_dataset import hand_over, let_go_of_all_but
from fvnet_mm.engine.config_file import innermost_dataset
from fvnet_mm.engine.tasks.base import (
    DataSource,
    DataSplit,
    Task,
    as_list,
    data_sets,
    evaluators,
    how_to_get,
    scale_images,
    set_num_classes,
    shorten_epochs,
)
from fvnet_mm.engine.tasks.dataset_facts import known_classes, require_agreement
from fvnet_mm.errors import UserError

IMAGE_SIZE = (160, 160)
BATCH = 4
EPOCHS = 4
LEARNING_RATE = 3e-4
MAX_GRADIENT_NORM = 5.0
PROPOSALS = 64
DETECTIONS = 16


class Detection(Task):
    """Boxes, and masks where the config has them."""

    demo_images = (256, 48)

    def __init__(self) -> None:
        self._documents = CocoDocuments()

    def make_demo_data(self, folder: Path) -> Path:
        return write_coco_shapes(folder, *self.demo_images, IMAGE_SIZE)

    def find(self, root: Path, names: Sequence[str]) -> CocoFolder:
        return find_coco(root, self._documents, names)

    def configured(self, cfg: Config, names: Sequence[str]) -> CocoFolder:
        splits: dict[str, CocoSplit] = {}
        classes: dict[str, tuple[str, ...]] = {}
        for name in names:
            dataset = innermost_dataset(cfg[f"{name}_dataloader"].dataset)
            if "ann_file" not in dataset or "img" not in dataset.get("data_prefix", {}):
                raise UserError(
                    f"{cfg.filename} reads a {dataset.type} that is not in COCO's layout; name a COCO folder with "
                    "--data DIR."
                )
            root = Path(dataset.get("data_root") or "")
            annotation_file, image_dir = root / dataset.ann_file, root / dataset.data_prefix.img
            for path in (annotation_file, image_dir):
                if not path.exists():
                    what_to_do = how_to_get(
                        cfg,
                        "the config expects COCO 2017 there (annotations/instances_train2017.json and "
                        "instances_val2017.json, train2017/, val2017/); put it there, name another folder with "
                        "--data DIR, or try --demo, which generates a small set",
                    )
                    raise UserError(f"there is no data in {root}: {path} does not exist; {what_to_do}.")
            document = self._documents.index(annotation_file)
            splits[name] = as_split(name, annotation_file, image_dir, document)
            listed = [category["name"] for category in document.categories]
            classes[name] = known_classes(cfg, name, listed, annotation_file, subset=True)
        require_agreement(cfg.model, classes)
        self._check_masks(cfg, splits.values())
        return CocoFolder(root, classes["val"], splits.get("train"), splits["val"])

    def check(self, cfg: Config, label: str, folder: CocoFolder, skip_bad: bool) -> DataSource:
        source = super().check(cfg, label, folder, skip_bad)
        for document in self._documents.taken():
            hand_over(document)
        return source

    def _find_bad(self, split: CocoSplit, progress: Callable[[int, int], None]) -> list[BadImage]:
        check_annotations(split, self._documents)
        return find_bad_images(split, self._documents, progress)

    def _without(self, split: CocoSplit, bad: Sequence[BadImage], work_dir: Path) -> CocoSplit:
        good = work_dir / f"instances_{split.name}_without_bad_images.json"
        split = without_images(split, bad, good, self._documents)
        check_annotations(split, self._documents)  # for the number of unused objects among those that are left
        return split

    def _describe(self, cfg: Config, split: CocoSplit, classes: Sequence[str]) -> DataSplit:
        index = self._documents.index(split.annotation_file)
        summary = f"{split.image_count} images, {split.annotation_count} objects"
        if index.skipped_boxes:
            summary += f" ({index.skipped_boxes} unused: thinner than a pixel or outside the image)"
        summary += f", {split.annotation_file}"
        warnings = []
        if _reads_masks(cfg, split) and index.rectangles == index.annotation_count:
            warnings.append(
                f"every segmentation in {split.annotation_file} is the rectangle of its box, so nothing but boxes can "
                f"be {'learnt' if split.name == 'train' else 'measured'} with it, and its mask AP is none of masks: "
                "draw outlines, or train a detector of boxes (retinanet)"
            )
        if split.name != "train":
            return DataSplit(split.name, split.image_count, summary, warnings=tuple(warnings))
        empty, small = _count_filtered(cfg, index, classes)
        reasons = [f"{empty} have no objects"] * (empty > 0)
        reasons += [f"{small} are below {_filter(cfg).get('min_size')} pixels"] * (small > 0)
        unused = f"{empty + small} of {split.image_count} training images are unused: {', '.join(reasons)}"
        if empty + small == split.image_count:
            raise UserError(f"{unused}; train_dataloader.dataset.filter_cfg says which are left out.")
        warnings += [unused] * bool(reasons)
        return DataSplit(split.name, split.image_count, summary, empty + small, tuple(warnings))

    def filtered(self, cfg: Config, folder: CocoFolder) -> int:
        return sum(_count_filtered(cfg, self._documents.index(folder.train.annotation_file), folder.classes))

    def _check_masks(self, cfg: Config, splits: Iterable[CocoSplit]) -> None:
        """Refuses objects without a sound outline if a config reads them; mmdet would stumble in the midst of a run."""
        for split in splits:
            if _reads_masks(cfg, split):
                check_outlines(split, self._documents)

    def use(self, cfg: Config, folder: CocoFolder) -> None:
        self._check_masks(cfg, filter(None, (folder.train, folder.val)))
        for dataset, split in data_sets(cfg, folder):
            dataset.data_root = ""
            dataset.ann_file = str(split.annotation_file.resolve())
            dataset.data_prefix = dict(img=f"{split.image_dir.resolve()}/")
            dataset.metainfo = dict(classes=folder.classes)
        for evaluator in _coco_evaluators(cfg):
            evaluator.ann_file = str(folder.val.annotation_file.resolve())
        set_num_classes(cfg.model, len(folder.classes))

    def scale_down(self, cfg: Config) -> None:
        """The learning rate goes up and gradients are clipped: hundreds of steps from random weights, not tens of
        thousands from ImageNet's.
        """
        scale_images(cfg, IMAGE_SIZE)
        shorten_epochs(cfg, EPOCHS, self.demo_images[0] // BATCH, BATCH)
        cfg.optim_wrapper.optimizer.lr = LEARNING_RATE
        cfg.optim_wrapper.clip_grad = dict(max_norm=MAX_GRADIENT_NORM)
        if "roi_head" in cfg.model:  # a second stage, for a thousand regions where an image has five objects
            cfg.model.train_cfg.rpn_proposal.max_per_img = cfg.model.test_cfg.rpn.max_per_img = PROPOSALS
            for stage in as_list(cfg.model.train_cfg.rcnn):  # a cascade has several
                stage.sampler.num = PROPOSALS
            cfg.model.test_cfg.rcnn.max_per_img = DETECTIONS

    def keep_predictions(self, cfg: Config, place: Path) -> None:
        _read_by_index(cfg)
        for evaluator in _coco_evaluators(cfg):
            evaluator.outfile_prefix = str(place)  # mmdet adds .bbox.json and .segm.json
            own = {key for key, value in evaluator.items() if value not in (None, False) and key != "_scope_"}
            if evaluator.type.removeprefix("mmdet.") == "CocoMetric" and own <= _KEPT_WHOLE:
                evaluator.type = "FullCocoMetric"
                for key in evaluator.keys() - own:
                    del evaluator[key]


_KEPT_WHOLE = {"type", "ann_file", "metric", "outfile_prefix", "prefix", "collect_device"}
"""Arguments of mmdet's ``CocoMetric`` that :class:`~fvnet_mm.engine.coco_metric.FullCocoMetric` has, too."""


def _reads_masks(cfg: Config, split: CocoSplit) -> bool:
    pipeline = innermost_dataset(cfg[f"{split.name}_dataloader"].dataset).get("pipeline", ())
    return any(transform.get("with_mask") for transform in pipeline)


def _coco_evaluators(cfg: Config) -> Iterator[ConfigDict]:
    """The evaluator configs of mmdet's ``CocoMetric`` and what is derived from it; others have other arguments."""
    for evaluator in evaluators(cfg):
        kind = METRICS.get(evaluator.type)
        if isinstance(kind, type) and issubclass(kind, CocoMetric):
            yield evaluator


def _read_by_index(cfg: Config) -> None:
    indexed = []
    training = cfg.get("train_dataloader") is not None
    for name in ("train_dataloader", "val_dataloader") if training else ("test_dataloader",):
        dataset = innermost_dataset(cfg[name].dataset)
        if dataset.get("type") in ("CocoDataset", "mmdet.CocoDataset", "IndexedCocoDataset"):
            dataset.type = "IndexedCocoDataset"
            indexed.append(Path(dataset.get("data_root") or "", dataset.ann_file))
    let_go_of_all_but(indexed)


def _filter(cfg: Config) -> Mapping[str, bool | int]:
    """What mmdet's filter asks of training images: ``filter_empty_gt`` and ``min_size``, or nothing."""
    return innermost_dataset(cfg.train_dataloader.dataset).get("filter_cfg") or {}


def _count_filtered(cfg: Config, index: CocoIndex, classes: Sequence[str]) -> tuple[int, int]:
    """Images that mmdet's filter drops: those without an object, and of the others those that are too small.

    An object that is too thin to be used is one, too.
    """
    known = {category["id"] for category in index.categories if category["name"] in classes}
    with_objects, smallest = _filter(cfg).get("filter_empty_gt", False), _filter(cfg).get("min_size", 0)
    empty = small = 0
    for image, held in zip(index.images, index.held, strict=True):
        if with_objects and known.isdisjoint(held):
            empty += 1
        elif min(image["width"], image["height"]) < smallest:
            small += 1
    return empty, small
