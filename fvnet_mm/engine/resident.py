"""Training data that is decoded once, stays in memory and is augmented by the batch on the device.

For data sets that fit into memory: a loader that decodes and transforms image by image is what a run on them waits for.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import TypedDict

import numpy as np
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.device import get_device
from mmengine.registry import DATASETS, FUNCTIONS
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch.utils.data import Dataset

from fvnet_mm.engine.batch_augment import (
    BatchAugmentation,
    augment_images,
    augment_labels,
    draw_augmentation,
)

DETERMINISTIC = ("LoadImageFromFile", "LoadAnnotations", "Resize", "PackDetInputs", "PackSegInputs")
"""Transforms that a resident data set may be decoded with: those that do the same every time."""

THREADS = 8
"""Images that are decoded at a time when a run begins; decoders let go of Python's lock."""


class Batch(TypedDict):
    """What mmdet's and mmseg's preprocessors take: images (N, 3, H, W), uint8, and a sample of targets for each."""

    inputs: torch.Tensor
    data_samples: list[BaseDataElement]


@DATASETS.register_module()
class ResidentDataset(Dataset):
    """A detection or segmentation data set whose images and targets are in memory, and whose batches come as a whole.

    A loader of it has no worker processes and ``collate_fn=dict(type='hand_on')``. Images are on the device that
    trains, and were augmented there; targets are where mmdet's and mmseg's pipelines leave them, and the same.
    Every process of a distributed run holds all of the set. Masks take a bit a pixel.

    Args:
        dataset: The config of a data set of mmdet or mmseg with a pipeline of :data:`DETERMINISTIC` transforms, which
            ends in images of one size.
        flip: Share of images that are flipped horizontally.
        zoom: Least and largest factor by which images are scaled, before windows of the old size are cut out of them
            (segmentation only); None for none.

    Raises:
        ValueError: The pipeline has another transform, images differ in size, ``zoom`` is asked of boxes, or it or
            ``flip`` is out of its range.
    """

    def __init__(self, dataset: dict, flip: float = 0.0, zoom: tuple[float, float] | None = None) -> None:
        names = [transform["type"].rpartition(".")[2] for transform in dataset["pipeline"]]
        others = [name for name in names if name not in DETERMINISTIC]
        if others:
            raise ValueError(f"{', '.join(others)} cannot be in the pipeline of a data set that is decoded only once")
        if zoom is not None and "PackSegInputs" not in names:
            raise ValueError("zoom is for label maps; boxes are flipped only")
        if not 0 <= flip <= 1:
            raise ValueError(f"flip is a share of the images, from 0 to 1, and not {flip}")
        if zoom is not None and not (isinstance(zoom, (list, tuple)) and len(zoom) == 2 and 0 < zoom[0] <= zoom[1]):
            raise ValueError(f"zoom is the least and the largest factor, both above 0, and not {zoom}")
        inner = DATASETS.build(dataset)
        self.metainfo = inner.metainfo
        self.flip, self.zoom = flip, zoom
        self._load(inner)

    def _load(self, inner: Dataset) -> None:
        self._samples: list[BaseDataElement] = []
        self._masks: dict[int, np.ndarray] = {}
        self._images = self._labels = torch.empty(0)
        with ThreadPoolExecutor(THREADS) as pool:
            for index, item in enumerate(pool.map(inner.__getitem__, range(len(inner)))):
                image, sample = item["inputs"], item["data_samples"]
                if index == 0:
                    self._images = torch.empty(len(inner), *image.shape, dtype=torch.uint8)
                    self._labels = torch.empty(len(inner), *image.shape[1:], dtype=torch.uint8)
                if image.shape != self._images.shape[1:]:
                    sizes = " and ".join("{2}x{1}".format(*shape) for shape in (self._images.shape[1:], image.shape))
                    raise ValueError(f"images that stay in memory must have one size, and there are {sizes} pixels")
                self._images[index] = image
                if "gt_sem_seg" in sample:
                    self._labels[index] = sample.gt_sem_seg.data[0].to(torch.uint8)
                    del sample.gt_sem_seg
                elif "masks" in sample.gt_instances:
                    self._masks[index] = np.packbits(sample.gt_instances.masks.masks, axis=-1)
                    del sample.gt_instances.masks
                self._samples.append(sample)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitems__(self, indices: list[int]) -> Batch:
        """The images and targets of a batch, augmented; torch's loader asks for all of them at once."""
        augmentation = draw_augmentation(len(indices), self.flip, self.zoom)
        images = augment_images(self._images[indices].to(get_device()), augmentation)
        if "gt_instances" in self._samples[0]:
            samples = [self._instances(i, bool(flip)) for i, flip in zip(indices, augmentation.flipped, strict=True)]
        else:
            samples = self._label_maps(indices, augmentation)
        for sample, flip in zip(samples, augmentation.flipped.tolist(), strict=True):
            sample.set_metainfo(dict(flip=flip, flip_direction="horizontal" if flip else None))
        return Batch(inputs=images, data_samples=samples)

    def _instances(self, index: int, flip: bool) -> BaseDataElement:
        stored = self._samples[index]
        sample = type(stored)(metainfo=stored.metainfo)
        shape = tuple(self._images.shape[-2:])
        for name in ("gt_instances", "ignored_instances"):
            instances = InstanceData(**dict(stored.get(name).items()))
            if flip:
                instances.bboxes = instances.bboxes.clone()
                instances.bboxes.flip_(shape)
                if "masks" in instances:  # of ignored ones alone
                    instances.masks = instances.masks.flip()
            sample.set_field(instances, name, dtype=InstanceData)
        if index in self._masks:
            masks = np.unpackbits(self._masks[index], axis=-1, count=shape[1])
            masks = np.ascontiguousarray(masks[..., ::-1]) if flip else masks
            sample.gt_instances.masks = BitmapMasks(masks, *shape)
        return sample

    def _label_maps(self, indices: list[int], augmentation: BatchAugmentation) -> list[BaseDataElement]:
        labels = augment_labels(self._labels[indices].to(get_device()), augmentation).long()
        samples = []
        for index, label_map in zip(indices, labels, strict=True):
            sample = type(self._samples[index])(metainfo=self._samples[index].metainfo)
            sample.gt_sem_seg = PixelData(data=label_map[None])
            samples.append(sample)
        return samples


@FUNCTIONS.register_module()
def hand_on(batch: Batch) -> Batch:
    """The ``collate_fn`` of a :class:`ResidentDataset`, whose batches need no putting together."""
    return batch
