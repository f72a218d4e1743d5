"""Records of small models whose predictions are generated: the truth, wrong at random places."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from fvnet_mm.files import sha256_of
from fvnet_mm.records import Backbone, Config, Data, Predictions, Protocol, Result, RunRecord, Split
from fvnet_mm.report.statistics.runs import Run

CLASSES = ("cat", "dog", "fox")
IMAGES = 40
SIZE = 120

TASKS = {
    "coco_boxes": "detection",
    "coco_masks": "instance_segmentation",
    "label_maps": "semantic_segmentation",
    "classes": "classification",
}


class Runs:
    """Makes runs on one validation split.

    Args:
        folder: To write into.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.annotations = folder / "val.json"
        self.labels = folder / "labels"
        rng = np.random.default_rng(0)
        self._objects = [(image, *_object(rng)) for image in range(1, IMAGES + 1) for _ in range(rng.integers(1, 5))]
        self.annotations.write_text(json.dumps(self._truth()))
        maps = rng.integers(1, len(CLASSES) + 1, size=(IMAGES, 8, 8)).repeat(2, axis=1).repeat(2, axis=2)
        self._maps = np.where(rng.random(maps.shape) < 0.05, 255, maps).astype(np.uint8)
        self.labels.mkdir()
        self._write_maps(self.labels, self._maps)
        self._class_of_image = rng.integers(0, len(CLASSES), size=IMAGES)

    def __call__(self, kind: str, name: str = "small", right: float = 0.7, seed: int = 0, **fields: object) -> Run:
        """Make a run.

        Args:
            kind: Of its predictions; a run with masks has boxes, too.
            name: Of its config.
            right: Share of what it recognises.
            seed: Of training; decides what is recognised.
            **fields: Of the record, instead of the usual ones.
        """
        folder = self.folder / f"{kind}_{name}_{seed}_{right}"
        folder.mkdir()
        rng = np.random.default_rng([seed, *name.encode()])
        kinds = ("coco_boxes", "coco_masks") if kind == "coco_masks" else (kind,)
        state = rng.bit_generator.state
        kept = []
        for each in kinds:
            rng.bit_generator.state = state
            kept.append(self._predict(each, folder, right, rng))
        truth = self.annotations if kind.startswith("coco_") else self.labels
        usual = dict(
            origin="test",
            status="finished",
            task=TASKS[kind],
            framework="some",
            config=Config(name=name),
            backbone=Backbone(name=name),
            protocol=Protocol(framework="some", learning_rate=1e-4),
            data=Data(label="animals", classes=CLASSES, val=Split(images=IMAGES, fingerprint=sha256_of(truth))),
            seed=seed,
            result=Result(metrics={}, predictions=tuple(kept)),
        )
        return Run(RunRecord(**usual | fields), folder)

    def _predict(self, kind: str, folder: Path, right: float, rng: np.random.Generator) -> Predictions:
        path, truth = folder / f"{kind}.json", self.annotations
        if kind == "label_maps":
            path, truth = folder / "maps", self.labels
            path.mkdir()
            other = rng.integers(1, len(CLASSES) + 1, size=self._maps.shape)
            is_other = (rng.random(self._maps.shape) > right) | (self._maps == 255)
            self._write_maps(path, np.where(is_other, other, self._maps))
        elif kind == "classes":
            other = rng.integers(0, len(CLASSES), size=IMAGES)
            predicted = np.where(rng.random(IMAGES) < right, self._class_of_image, other)
            pairs = zip(self._class_of_image.tolist(), predicted.tolist(), strict=True)
            entries = [
                dict(file=f"{number:03}.jpg", label=label, prediction=prediction, score=0.5)
                for number, (label, prediction) in enumerate(pairs)
            ]
            path.write_text(json.dumps(entries))
        else:
            path.write_text(json.dumps(self._detections(right, rng, kind == "coco_masks")))
        return Predictions(
            kind=kind,
            path=path.name,
            ground_truth=None if kind == "classes" else str(truth),
            sha256=sha256_of(path),
        )

    def _truth(self) -> dict[str, object]:
        return dict(
            images=[dict(id=n, file_name=f"{n}.jpg", width=SIZE, height=SIZE) for n in range(1, IMAGES + 1)],
            annotations=[
                dict(id=number, image_id=image, category_id=category, bbox=box, area=box[2] * box[3], iscrowd=0)
                | dict(segmentation=_mask(box))
                for number, (image, category, box) in enumerate(self._objects, 1)
            ],
            categories=[dict(id=number, name=name) for number, name in enumerate(CLASSES, 1)],
        )

    def _detections(self, right: float, rng: np.random.Generator, with_masks: bool) -> list[dict[str, object]]:
        entries = []
        for image, category, box in self._objects:
            if rng.random() > right:
                category, box = _object(rng)
            shape = dict(segmentation=_mask(box)) if with_masks else dict(bbox=box)
            entries.append(dict(image_id=image, category_id=category, score=round(float(rng.random()), 2)) | shape)
        return entries

    @staticmethod
    def _write_maps(folder: Path, maps: np.ndarray) -> None:
        for number, values in enumerate(maps):
            Image.fromarray(values.astype(np.uint8)).save(folder / f"{number:03}.png")


def _object(rng: np.random.Generator) -> tuple[int, list[int]]:
    """Class and box."""
    return int(rng.integers(1, len(CLASSES) + 1)), [
        *rng.integers(0, 20, size=2).tolist(),
        *rng.integers(10, 100, size=2).tolist(),
    ]


def _mask(box: list[int]) -> dict[str, object]:
    x, y, width, height = box
    mask = np.zeros((SIZE, SIZE), np.uint8, order="F")
    mask[y : y + height, x : x + width] = 1
    encoded = coco_mask.encode(mask)
    return encoded | dict(counts=encoded["counts"].decode())


@pytest.fixture
def make_run(tmp_path: Path) -> Runs:
    """Makes runs of models on one validation split; see :class:`Runs`."""
    return Runs(tmp_path)
