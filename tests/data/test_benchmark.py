"""The shapes benchmark: what is drawn, and the folder that it is written into."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from fvnet_mm.data.ade20k_layout import find_ade20k
from fvnet_mm.data.benchmark import dataset
from fvnet_mm.data.benchmark.classes import IMAGE_SIZE, SEMANTIC_CLASSES, SIZE_SHARES, THINGS, size_class
from fvnet_mm.data.benchmark.dataset import FOLDERS, SIZES, write_shapes
from fvnet_mm.data.benchmark.outlines import SPINDLES, outline
from fvnet_mm.data.benchmark.placing import lay_out
from fvnet_mm.data.benchmark.scene import Scene, draw_scene, shrink
from fvnet_mm.data.coco_index import CocoDocuments
from fvnet_mm.data.coco_layout import find_coco
from fvnet_mm.errors import UserError

COUNTS = {"train": 4, "val": 2, "test": 1}
TOOL = Path(__file__).parents[2] / "tools" / "make_shapes.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("benchmark") / "shapes"
    write_shapes(root, COUNTS, image_size=160, workers=1)
    return root


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(0, "train", index) for index in range(6)]


def files(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_scene_depends_on_seed_split_and_index_alone(scenes: list[Scene]):
    again = draw_scene(0, "train", 1)
    np.testing.assert_array_equal(again.image, scenes[1].image)
    np.testing.assert_array_equal(again.labels, scenes[1].labels)
    for other in (draw_scene(1, "train", 1), draw_scene(0, "val", 1), scenes[2]):
        assert np.abs(other.image.astype(int) - again.image).mean() > 10


def test_masks_are_disjoint_and_agree_with_the_labels(scenes: list[Scene]):
    for scene in scenes:
        assert scene.image.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
        covered = np.zeros((IMAGE_SIZE, IMAGE_SIZE), int)
        for item in scene.instances:
            assert (scene.labels[item.mask] == item.thing + 1).all()
            covered += item.mask
        assert covered.max() <= 1
        np.testing.assert_array_equal(covered > 0, (scene.labels > 0) & (scene.labels <= len(THINGS)))
        assert scene.labels.max() <= len(SEMANTIC_CLASSES)
        stuff = scene.labels > len(THINGS)
        assert 0.2 < stuff.mean() < 1
        assert (scene.labels == 0).mean() < 0.1


def test_sizes_and_classes_are_distributed_as_stated():
    """On layouts alone, as a painted image takes ten times as long; the flow has no part in sizes."""
    sizes, classes = Counter(), Counter()
    direction = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32)
    for seed in range(150):
        layout = lay_out(np.random.default_rng(seed), direction)
        for number, item in enumerate(layout.items):
            if item.thing is not None:
                sizes[size_class(layout.mask(number).sum())] += 1
                classes[item.thing] += 1
    total = sizes.total()
    # Binomial deviations of a thousand objects are 1.6 points at most; a pair shares its place, a scene its crowd.
    np.testing.assert_allclose([sizes[i] / total for i in range(3)], SIZE_SHARES, atol=0.05)
    assert total / 150 > 6
    assert min(classes.values()) > 0.5 * total / len(THINGS)
    assert len(classes) == len(THINGS)


@pytest.mark.parametrize("name", [*SPINDLES, "dart", "quatrefoil", "cinquefoil", "mouth", "triangle"])
def test_outlines_have_area_one_and_equal_spread(name: str):
    axis = (np.arange(-300, 300) + 0.5) / 150
    u, v = np.meshgrid(axis, axis)
    inside = outline(name).field(u, v) > 0
    assert inside.sum() / 150**2 == pytest.approx(1, abs=0.02)
    assert u[inside].std() == pytest.approx(v[inside].std(), rel=0.02)
    assert (u[inside].mean(), v[inside].mean()) == pytest.approx((0, 0), abs=0.01)
    assert np.hypot(u, v)[inside].max() <= outline(name).reach + 0.02


def test_flow_classes_lie_as_they_say():
    """In a flow to the right, the principal axis of a drifter's mask is horizontal, that of a crosser's vertical."""
    names = list(THINGS)
    seen = Counter()
    for seed in range(30):
        layout = lay_out(np.random.default_rng(seed), np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32))
        for item in layout.items:
            name = None if item.thing is None else names[item.thing]
            if name not in ("drifter", "crosser") or item.side < 20:
                continue
            depth = item.patch.depth
            if (depth[0] > 0).any() or (depth[-1] > 0).any() or (depth[:, 0] > 0).any() or (depth[:, -1] > 0).any():
                continue  # cut by the image
            rows, columns = np.nonzero(depth > 0)
            assert (columns.std() > rows.std()) == (name == "drifter")
            seen[name] += 1
    assert min(seen["drifter"], seen["crosser"]) > 5


def test_shrinking_averages_colours_and_keeps_labels(scenes: list[Scene]):
    small = shrink(scenes[0], 160)
    blocks = scenes[0].image.reshape(160, 2, 160, 2, 3).mean((1, 3))
    assert np.abs(small.image - blocks).max() <= 1
    assert set(np.unique(small.labels)) <= set(np.unique(scenes[0].labels))
    for whole, reduced in zip(scenes[0].instances, small.instances, strict=True):
        assert 4 * reduced.mask.sum() == pytest.approx(whole.mask.sum(), rel=0.2, abs=40)


def test_one_folder_is_cocos_and_ade20ks_layout(root: Path):
    found = find_coco(root)
    assert found.classes == tuple(THINGS)
    assert (found.train.image_count, found.val.image_count) == (COUNTS["train"], COUNTS["val"])
    assert all(CocoDocuments().index(found.train.annotation_file).held)
    semantic = find_ade20k(root)
    assert semantic.classes == SEMANTIC_CLASSES
    assert (semantic.train.image_count, semantic.val.image_count) == (COUNTS["train"], COUNTS["val"])
    assert (found.train.image_dir, found.val.image_dir) == (semantic.train.image_dir, semantic.val.image_dir)


@pytest.mark.parametrize("split", SIZES)
def test_files_hold_what_was_drawn(root: Path, split: str):
    coco = COCO(root / "annotations" / f"instances_{split}.json")
    assert len(coco.imgs) == COUNTS[split]
    for index, entry in enumerate(coco.imgs.values()):
        scene = shrink(draw_scene(0, split, index), 160)
        image = cv2.imread(str(root / "images" / FOLDERS[split] / entry["file_name"]))
        assert np.abs(image[..., ::-1].astype(int) - scene.image).mean() < 8  # JPEG's loss
        stem = Path(entry["file_name"]).stem
        labels = cv2.imread(str(root / "annotations" / FOLDERS[split] / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(labels, scene.labels)
        annotations = coco.loadAnns(coco.getAnnIds(entry["id"]))
        assert [annotation["category_id"] for annotation in annotations] == [i.thing + 1 for i in scene.instances]
        for annotation, item in zip(annotations, scene.instances, strict=True):
            np.testing.assert_array_equal(coco.annToMask(annotation), item.mask)
            rows, columns = np.nonzero(item.mask)
            left, top, width, height = annotation["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
            assert annotation["area"] == item.mask.sum()


def test_ids_are_unique_over_all_splits(root: Path):
    documents = [json.loads(file.read_text()) for file in (root / "annotations").glob("*.json")]
    for section in ("images", "annotations"):
        ids = [entry["id"] for document in documents for entry in document[section]]
        assert len(set(ids)) == len(ids)
        assert 0 not in ids  # COCOeval takes a match with an object of id 0 for none


def test_smaller_set_is_the_beginning_and_processes_do_not_matter(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(dataset, "CHUNK", 2)
    settings = write_shapes(tmp_path / "small", {"train": 3, "val": 2, "test": 1}, image_size=160, workers=2)
    small, large = files(tmp_path / "small"), files(root)
    pictures = [name for name in small if name.endswith(("jpg", "png"))]
    assert len(pictures) == 2 * 6
    assert all(large[name] == small[name] for name in pictures)
    assert small["annotations/instances_val.json"] == large["annotations/instances_val.json"]
    beginning, whole = (json.loads(content["annotations/instances_train.json"]) for content in (small, large))
    assert whole["images"][:3] == beginning["images"]
    assert whole["annotations"][: len(beginning["annotations"])] == beginning["annotations"]
    prints = json.loads(large["benchmark.json"])["fingerprints"]
    assert settings["fingerprints"]["val"] == prints["val"]
    assert settings["fingerprints"]["train"] != prints["train"]


def test_whole_set_is_kept_and_others_are_refused(root: Path, tmp_path: Path):
    before = files(root)
    times = {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    assert write_shapes(root, COUNTS, image_size=160, workers=1)["images"] == COUNTS
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*")} == times
    with pytest.raises(UserError, match="other settings"):
        write_shapes(root, {**COUNTS, "train": 5}, image_size=160)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("kept")
    with pytest.raises(UserError, match="is no shapes benchmark"):
        write_shapes(tmp_path / "mine", COUNTS)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "kept"
    assert files(root) == before


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_leads_to_the_set(tmp_path: Path, exists: bool):
    disk = tmp_path / "disk"
    (disk / "set" if exists else disk).mkdir(parents=True)
    (tmp_path / "link").symlink_to(disk / "set")
    sizes = {"train": 1, "val": 1, "test": 1}
    assert write_shapes(tmp_path / "link", sizes, image_size=64, workers=1)["images"] == sizes
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in disk.iterdir()] == ["set"]
    assert find_coco(tmp_path / "link").train.image_count == 1


class Killed(BaseException):
    """What takes the place of SIGKILL."""


def kill(*_: object) -> None:
    raise Killed


def test_nothing_is_missing_after_a_smaller_set_was_begun_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dataset, "CHUNK", 1)

    def write(size: int) -> None:
        write_shapes(tmp_path / "set", {"train": size, "val": 1, "test": 1}, image_size=64, workers=1)

    join = dataset._join
    for size, at in ((3, "train"), (1, "val")):
        with monkeypatch.context() as patched:
            patched.setattr(
                dataset,
                "_join",
                lambda root, split, chunks, at=at: (kill if split == at else join)(root, split, chunks),
            )
            with pytest.raises(Killed):
                write(size)
    write(3)
    train = find_coco(tmp_path / "set").train
    assert len(list(train.image_dir.iterdir())) == train.image_count == 3


def test_killed_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    arguments = dict(sizes={"train": 2, "val": 1, "test": 1}, image_size=64, workers=1)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rmdir", kill)
        (tmp_path / "set").mkdir()
        with pytest.raises(Killed):
            write_shapes(tmp_path / "set", **arguments)
    monkeypatch.setattr(dataset, "_make", kill)
    write_shapes(tmp_path / "set", **arguments)
    assert find_coco(tmp_path / "set").train.image_count == 2
    assert {path.name for path in tmp_path.iterdir()} == {"set"}


@pytest.mark.parametrize("content", ["[]", "{", "3"])
def test_a_folder_of_something_else(content: str, tmp_path: Path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "benchmark.json").write_text(content)
    with pytest.raises(UserError, match="is no shapes benchmark"):
        write_shapes(tmp_path / "set", COUNTS)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_what_cannot_be_made_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_shapes(tmp_path / "file" / "set", COUNTS)
    with pytest.raises(UserError, match="at most 500,000 images in train"):
        write_shapes(tmp_path / "set", {**COUNTS, "train": 500_001})
    with pytest.raises(ValueError, match="seed of at least 0"):
        write_shapes(tmp_path / "set", COUNTS, seed=-1)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_killed_tool_goes_on(tmp_path: Path):
    """Killed without warning once some images are there: they are kept, whatever size is asked for then."""

    def words(size: int) -> list[str]:
        options = ["--size", size, "--val-size", "1", "--image-size", "64", "--workers", "1"]
        return list(map(str, [sys.executable, TOOL, "set", *options]))

    unfinished = tmp_path / ".set.unfinished"
    running = subprocess.Popen(words(1000), cwd=tmp_path, stdout=subprocess.DEVNULL)
    while not (unfinished / "parts" / "train_000025_000050.json").is_file():
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "set").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in (unfinished / "images" / "training").glob("*_0000[0-2]*")}
    stray = unfinished / "images" / "training" / "train_000999.jpg"
    stray.write_bytes(b"half")
    again = subprocess.run(words(50), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    images = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set" / "images" / "training").iterdir()}
    assert len(images) == 50
    assert len(kept) > 25
    assert {name: images[name] for name in kept} == kept
    assert {path.name for path in tmp_path.iterdir()} == {"set"}
    assert find_coco(tmp_path / "set").train.image_count == 50
    assert "fingerprint" in again.stdout
