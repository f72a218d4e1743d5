"""Data that stays in memory: the same targets as from the ordinary loader, and runs that resume."""

import copy
import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from fvnet_mm.data.benchmark.dataset import write_shapes
from fvnet_mm.engine.batch_augment import augment_labels, draw_augmentation
from fvnet_mm.engine.config_file import innermost_dataset
from fvnet_mm.engine.epochs import read_seeded
from fvnet_mm.engine.resident import ResidentDataset
from fvnet_mm.records.from_config import pipeline_in_words

CONFIGS = Path(__file__).parents[2] / "configs"
FRAMEWORKS = ("retinanet", "mask_rcnn", "semantic_fpn")
IMAGES = 6
SIZE = 92  # no multiple of 8, as masks take a bit a pixel


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("resident") / "shapes"
    write_shapes(root, {"train": IMAGES, "val": 1, "test": 1}, image_size=SIZE, workers=1)
    file = root / "annotations" / "instances_train.json"
    document = json.loads(file.read_text())
    for annotation in document["annotations"][::3]:
        annotation["iscrowd"] = 1
    file.write_text(json.dumps(document))
    return root


def config(framework: str, root: Path) -> Config:
    cfg = Config.fromfile(CONFIGS / f"{framework}_fvnet_s_shapes.py")
    init_default_scope(cfg.default_scope)
    innermost_dataset(cfg.train_dataloader.dataset).data_root = f"{root}/"
    cfg.train_dataloader.batch_size = 3
    return cfg


def ordinary(loader: ConfigDict, **flip: object) -> ConfigDict:
    """The loader of single images that mmdet and mmseg would have."""
    loader = copy.deepcopy(loader)
    loader.dataset = loader.dataset.dataset
    loader.collate_fn = dict(type="pseudo_collate")
    if flip:
        loader.dataset.pipeline.insert(2, dict(type="RandomFlip", **flip))
    return loader


def batches(loader: ConfigDict, preprocessor: torch.nn.Module) -> list[dict]:
    """All batches as the model gets them."""
    loader = copy.deepcopy(loader)
    loader.sampler.shuffle = False
    return [preprocessor(batch, True) for batch in Runner.build_dataloader(loader, seed=0)]


def assert_equal_targets(one: object, other: object) -> None:
    for name in ("gt_instances", "ignored_instances"):
        if name not in other:
            continue
        assert set(one.get(name).keys()) == set(other.get(name).keys())
        for key, value in other.get(name).items():
            mine = one.get(name)[key]
            if key == "masks":
                np.testing.assert_array_equal(mine.masks, value.masks)
            else:
                assert mine.dtype == value.dtype
                torch.testing.assert_close(mine, value, rtol=0, atol=0)
    if "gt_sem_seg" in other:
        assert one.gt_sem_seg.data.dtype == other.gt_sem_seg.data.dtype
        torch.testing.assert_close(one.gt_sem_seg.data, other.gt_sem_seg.data, rtol=0, atol=0)


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_targets_are_the_ordinary_loaders(framework: str, flip: float, root: Path):
    cfg = config(framework, root)
    cfg.train_dataloader.dataset.update(flip=flip, zoom=None)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    mine = batches(cfg.train_dataloader, preprocessor)
    theirs = batches(ordinary(cfg.train_dataloader, prob=flip), preprocessor)
    assert len(mine) == len(theirs) == IMAGES // 3
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one["inputs"], other["inputs"], rtol=0, atol=0)
        for sample, expected in zip(one["data_samples"], other["data_samples"], strict=True):
            assert_equal_targets(sample, expected)
            assert {**expected.metainfo, **sample.metainfo} == sample.metainfo


def test_augmented_label_maps_have_the_images_size(root: Path):
    cfg = config("semantic_fpn", root)
    batch = batches(cfg.train_dataloader, MODELS.build(cfg.model.data_preprocessor))[0]
    for sample in batch["data_samples"]:
        assert sample.gt_sem_seg.data.shape == (1, *batch["inputs"].shape[2:])
        assert set(sample.gt_sem_seg.data.unique().tolist()) <= {*range(19), 255}


def test_label_maps_get_the_draw_of_their_images(root: Path):
    data = DATASETS.build(config("semantic_fpn", root).train_dataloader.dataset)
    torch.manual_seed(0)
    drawn = draw_augmentation(3, data.flip, data.zoom)
    torch.manual_seed(0)
    samples = data.__getitems__([0, 1, 2])["data_samples"]
    maps = torch.cat([sample.gt_sem_seg.data.cpu() for sample in samples])
    torch.testing.assert_close(maps, augment_labels(data._labels[[0, 1, 2]], drawn).long(), rtol=0, atol=0)


def test_an_epoch_repeats_and_the_next_differs(root: Path):
    cfg = config("retinanet", root)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    assert isinstance(loader, DataLoader)

    def epoch(number: int, seed: int = 0) -> list[bool]:
        loader.dataset.__getitems__ = partial(read_seeded, loader.dataset, seed, number, None)
        loader.sampler.set_epoch(number)
        return [sample.flip for batch in loader for sample in batch["data_samples"]]

    first = epoch(1)
    assert epoch(1) == first
    assert epoch(2) != first
    assert epoch(1, seed=1) != first
    assert 0 < np.mean(first) < 1


def test_what_is_stored_is_not_changed_by_flips(root: Path):
    cfg = config("mask_rcnn", root)
    cfg.train_dataloader.dataset.flip = 1.0
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    loader.dataset.flip = 1.0
    again = [copy.deepcopy(preprocessor(loader.dataset.__getitems__([0, 1, 2]), True)) for _ in range(2)]
    for sample, expected in zip(again[0]["data_samples"], again[1]["data_samples"], strict=True):
        assert_equal_targets(sample, expected)


def test_the_protocol_says_what_happens_to_images():
    cfg = Config.fromfile(CONFIGS / "semantic_fpn_fvnet_s_shapes.py").to_dict()
    words = pipeline_in_words(cfg["train_dataloader"]["dataset"])
    assert "LoadAnnotations(reduce_zero_label=True), PackSegInputs" in words
    assert "(flip=0.5, zoom=(0.5, 2))" in words


def test_mistakes_are_named(root: Path):
    cfg = config("retinanet", root)
    inner = cfg.train_dataloader.dataset.dataset
    with pytest.raises(ValueError, match="zoom is for label maps"):
        ResidentDataset(inner, zoom=(0.5, 2.0))
    with pytest.raises(ValueError, match="flip is a share of the images, from 0 to 1, and not 2"):
        ResidentDataset(inner, flip=2)
    labelled = dict(inner, pipeline=[dict(type="PackSegInputs")])
    for zoom in ((-1.0, 2.0), (0.0, 1.0), (2.0, 0.5), (1.0,), 2.0):
        with pytest.raises(ValueError, match="zoom is the least and the largest factor"):
            ResidentDataset(labelled, zoom=zoom)
    inner.pipeline.insert(2, dict(type="RandomFlip", prob=0.5))
    with pytest.raises(ValueError, match="RandomFlip cannot be in the pipeline"):
        ResidentDataset(inner)


def test_images_of_different_sizes_are_refused(root: Path, tmp_path: Path):
    cfg = config("semantic_fpn", root)
    inner = copy.deepcopy(cfg.train_dataloader.dataset.dataset)
    folder = tmp_path / "mixed"
    for part in ("images", "annotations"):
        (folder / part / "training").mkdir(parents=True)
        for number, file in enumerate(sorted((root / part / "training").iterdir())[:2]):
            picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(folder / part / "training" / file.name), picture[: SIZE - 32 * number])
    inner.data_root = str(folder)
    with pytest.raises(ValueError, match="must have one size, and there are 92x92 and 92x60 pixels"):
        ResidentDataset(inner)
