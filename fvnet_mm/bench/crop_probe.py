"""What the classes of the shapes benchmark can be told from: classifiers of its objects, cut out of the images.

A detector has to find objects, too; a probe is given their true boxes. Two kinds of crops show the same window of the
image, 2.5 times as wide as the object. In one of them all that is not the object is grey, so that what the classifier
knows from the one and not from the other it knows from the surroundings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
from pycocotools import mask as coco_mask
from torch import nn
from torch.nn import functional as F

from fvnet_mm.bench.probe_names import MODELS
from fvnet_mm.data.coco_index import CocoDocuments
from fvnet_mm.data.coco_layout import CocoSplit
from fvnet_mm.errors import UserError
from fvnet_mm.files import replacing

CROP_SIZE = 48
"""Width and height of a crop in pixels."""

WINDOW = 2.5
"""Side of the window against the longer side of the object's box."""

GREY = 128

BINS = 8
"""Bins of a colour channel's histogram."""


@dataclass(frozen=True)
class Crops:
    """Objects cut out of a split.

    Attributes:
        images: (N, 3, S, S) uint8 RGB.
        inside: (N, S, S) bool, the object's visible pixels.
        labels: (N,) int64, from 0 in the order of the annotation file's categories.
        areas: (N,) float32, visible areas in the image, in its pixels.
    """

    images: torch.Tensor
    inside: torch.Tensor
    labels: torch.Tensor
    areas: torch.Tensor

    def without_surroundings(self) -> Crops:
        """The same with everything grey that is not the object."""
        images = torch.where(self.inside[:, None], self.images, torch.tensor(GREY, dtype=torch.uint8))
        return Crops(images, self.inside, self.labels, self.areas)


def cut_out(split: CocoSplit) -> Crops:
    """Cut every object of a split out of its image.

    Raises:
        UserError: An image cannot be read.
    """
    document = CocoDocuments().read(split.annotation_file)
    numbers = {category["id"]: number for number, category in enumerate(document.categories)}
    by_image: dict[int, list] = {}
    for annotation in document.annotations:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    count = len(document.annotations)
    images = np.empty((count, CROP_SIZE, CROP_SIZE, 3), np.uint8)
    inside = np.empty((count, CROP_SIZE, CROP_SIZE), bool)
    labels, areas = np.empty(count, np.int64), np.empty(count, np.float32)
    row = 0
    for entry in document.images:
        file = split.image_dir / entry["file_name"]
        picture = cv2.imread(str(file))
        if picture is None:
            raise UserError(f"{file} is missing or cannot be decoded; make the set again.")
        picture = picture[..., ::-1]
        for annotation in by_image.get(entry["id"], ()):
            left, top, width, height = annotation["bbox"]
            side = round(WINDOW * max(width, height))
            corner = round(left + width / 2 - side / 2), round(top + height / 2 - side / 2)
            images[row] = _window(picture, corner, side, (GREY,) * 3)
            inside[row] = _window(coco_mask.decode(annotation["segmentation"]) * 255, corner, side, 0) > 127
            labels[row], areas[row] = numbers[annotation["category_id"]], annotation["area"]
            row += 1
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return Crops(pixels, torch.from_numpy(inside), torch.from_numpy(labels), torch.from_numpy(areas))


def _window(picture: np.ndarray, corner: tuple[int, int], side: int, outside: tuple[int, ...] | int) -> np.ndarray:
    """A square of the picture, which may reach beyond it, at the size of a crop."""
    x, y = corner
    height, width = picture.shape[:2]
    part = picture[max(y, 0) : y + side, max(x, 0) : x + side]
    below, right = max(y + side - height, 0), max(x + side - width, 0)
    part = cv2.copyMakeBorder(part, max(-y, 0), below, max(-x, 0), right, cv2.BORDER_CONSTANT, value=outside)
    way = cv2.INTER_AREA if side > CROP_SIZE else cv2.INTER_LINEAR
    return cv2.resize(part, (CROP_SIZE, CROP_SIZE), interpolation=way)


class LinearProbe(nn.Module):
    """A linear classifier of 16 x 16 pixels and of histograms of the three colours."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(3 * 16 * 16 + 3 * BINS, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) about -1 to 1 -> logits (N, classes)."""
        bins = ((x + 1) * (BINS / 2)).long().clamp(0, BINS - 1)
        histograms = F.one_hot(bins.flatten(2), BINS).float().mean(2).flatten(1)
        return self.classify(torch.cat([F.adaptive_avg_pool2d(x, 16).flatten(1), BINS * histograms], 1))


def tiny_network(classes: int) -> nn.Module:
    """Five 3 x 3 convolutions."""
    widths = (3, 16, 32, 64, 64, 64)
    strides = (2, 2, 2, 1, 2)
    layers: list[nn.Module] = []
    for before, after, stride in zip(widths[:-1], widths[1:], strides, strict=True):
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


def build_probe(name: str, classes: int) -> nn.Module:
    """A probe by its name in :data:`~fvnet_mm.bench.probe_names.MODELS`, with random weights.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in MODELS:
        raise ValueError(f"there is no probe {name!r}; there are {', '.join(MODELS)}.")
    if name == "linear":
        return LinearProbe(classes)
    if name == "tiny":
        return tiny_network(classes)
    return timm.create_model("resnet18", num_classes=classes)


class Probe:
    """A classifier in training, epoch by epoch, so that it can be interrupted.

    Args:
        name: One of :data:`~fvnet_mm.bench.probe_names.MODELS`.
        classes: How many there are.
        epochs: Of the whole schedule, a cosine after a warm-up of a tenth.
        seed: Of weights, order and flips.
        state: File of what has been trained so far; it is gone on with.
        data: What tells the crops that it learns from others.

    Raises:
        UserError: The file is of a probe with other arguments, or damaged.
    """

    batch_size = 64

    def __init__(self, name: str, classes: int, epochs: int, seed: int, state: Path, data: str = "") -> None:
        torch.manual_seed(seed)
        self.model = build_probe(name, classes)
        self.epochs, self.seed, self.state = epochs, seed, state
        rate = 2e-3 if name == "linear" else 1e-3
        self.optimizer = torch.optim.AdamW(self.model.parameters(), rate, weight_decay=0.05)
        self.epoch = 0
        self._settings = dict(model=name, classes=classes, epochs=epochs, seed=seed, data=data)
        if state.is_file():
            saved = _read_state(state)
            others = [key for key, value in self._settings.items() if saved["settings"].get(key) != value]
            if others:
                raise UserError(
                    f"{state} is what a probe with other settings ({', '.join(others)}) has learned so far; "
                    "remove it, or write to another file."
                )
            try:
                self.model.load_state_dict(saved["model"])
                self.optimizer.load_state_dict(saved["optimizer"])
            except (RuntimeError, ValueError) as error:  # of a version whose probe was another network
                raise UserError(_unreadable(state)) from error
            self.epoch = saved["epoch"]

    def train_epoch(self, crops: Crops) -> float:
        """Trains one more epoch, saves it, and returns its mean loss."""
        generator = torch.Generator().manual_seed(self.seed * 1000 + self.epoch)
        order = torch.randperm(len(crops.labels), generator=generator)
        batches = order.split(self.batch_size)
        rate = self.optimizer.defaults["lr"]
        losses = []
        self.model.train()
        for number, rows in enumerate(batches):
            done = (self.epoch + number / len(batches)) / self.epochs
            warm = min(done * 10, 1.0)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * warm * (0.5 + 0.5 * float(np.cos(np.pi * done)))
            images = _turn(_normalise(crops.images[rows]), generator)
            loss = F.cross_entropy(self.model(images), crops.labels[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        self.epoch += 1
        with replacing(self.state) as temporary:
            saved = dict(model=self.model.state_dict(), optimizer=self.optimizer.state_dict(), epoch=self.epoch)
            torch.save({**saved, "settings": self._settings}, temporary)
        return float(np.mean(losses))

    @torch.no_grad()
    def predict(self, crops: Crops) -> torch.Tensor:
        """(N,) int64: the class of each crop."""
        self.model.eval()
        return torch.cat([self.model(_normalise(images)).argmax(1) for images in crops.images.split(256)])


def _read_state(file: Path) -> dict:
    """What a probe has saved of its training.

    Raises:
        UserError: The file cannot be read, or is none of a probe's.
    """
    try:
        saved = torch.load(file, weights_only=True)
    except Exception as error:  # a damaged file makes torch's reader raise anything
        raise UserError(_unreadable(file)) from error
    if not isinstance(saved, dict) or saved.keys() != {"model", "optimizer", "epoch", "settings"}:
        raise UserError(_unreadable(file))
    return saved


def _unreadable(file: Path) -> str:
    return f"{file} cannot be read as what a probe has learned so far; remove it to begin anew."


def _turn(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Flips and transposes some: none of the classes has a preferred direction."""
    for change in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.transpose(-1, -2)):
        chosen = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
        images = torch.where(chosen, change(images), images)
    return images


def _normalise(images: torch.Tensor) -> torch.Tensor:
    return (images.float() - GREY) / GREY
