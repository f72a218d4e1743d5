from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fvnet_mm.data.ade20k_check import check_pairs, find_bad_pairs, without_pairs
from fvnet_mm.data.ade20k_layout import Ade20kSplit, find_ade20k
from fvnet_mm.data.image_check import BadImage
from fvnet_mm.errors import UserError

CLASSES = ("cat", "dog", "fish")


@pytest.fixture
def split(ade20k_root: Path) -> Ade20kSplit:
    return find_ade20k(ade20k_root).train


@pytest.fixture
def relabel(split: Ade20kSplit) -> Callable[[str, np.ndarray], None]:
    """``relabel(stem, labels)`` exchanges a label map."""
    return lambda stem, labels: Image.fromarray(labels).save(split.label_dir / f"{stem}.png")


def test_sound_split(split: Ade20kSplit):
    assert check_pairs(split, CLASSES) == (0.75, ())
    assert find_bad_pairs(split) == []


def test_counts_are_those_of_the_pixels(split: Ade20kSplit, relabel: Callable):
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array([0, 1, 3, 255], np.uint8), (4, 30, 40))
    for stem, each in zip(split.stems, labels, strict=True):
        relabel(stem, each)
    labelled, absent = check_pairs(split, (*CLASSES, "bird"))
    assert labelled == pytest.approx(np.isin(labels, (1, 3)).mean())
    assert absent == ("dog", "bird")


@pytest.mark.parametrize("value", [0, 255])
def test_what_counts_as_unlabelled_is_what_mmseg_ignores(split: Ade20kSplit, relabel: Callable, value: int):
    from mmseg.datasets.transforms import LoadAnnotations

    relabel("t0", np.array([[value, 1], [2, 3]], np.uint8))
    info = {"seg_map_path": str(split.label_dir / "t0.png"), "reduce_zero_label": True, "seg_fields": []}
    assert LoadAnnotations()(info)["gt_seg_map"].tolist() == [[255, 0], [1, 2]]
    assert check_pairs(replace(split, stems=("t0",)), CLASSES) == (0.75, ())


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (("cat",), r"4 of 4 label maps in .*training .*\(t0.png: 2, 3; t1.png: 2, 3; t2.png: 2, 3 \.\.\.\): 1 classes"),
        (("cat", "dog"), r"4 of 4 .*t0.png: 3; .*: 2 classes have the labels 1 to 2, beside 0"),
    ],
)
def test_values_outside_the_class_list_are_named(split: Ade20kSplit, classes: tuple[str, ...], sentence: str):
    with pytest.raises(UserError, match=sentence):
        check_pairs(split, classes)


def test_one_wrong_value_is_found(split: Ade20kSplit, relabel: Callable):
    labels = np.ones((30, 40), np.uint8)
    labels[12, 7] = 254
    relabel("t2", labels)
    with pytest.raises(UserError, match=r"1 of 4 label maps in .* \(t2.png: 254\): 3 classes have the labels 1 to 3"):
        check_pairs(split, CLASSES)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (np.zeros((30, 40, 3), np.uint8), "colour-coded"),
        (np.zeros((30, 40, 4), np.uint8), "colour-coded"),
        (np.ones((30, 40), np.uint16), r"not of 8 bits a pixel \(Pillow's mode I;16\)"),
        (np.zeros((30, 40, 2), np.uint8), r"not of 8 bits a pixel \(Pillow's mode LA\)"),
    ],
)
def test_label_maps_of_colours_or_more_bits_are_refused(
    split: Ade20kSplit, relabel: Callable, labels: np.ndarray, kind: str
):
    relabel("t1", labels)
    assert find_bad_pairs(split) == []
    with pytest.raises(UserError, match=rf"1 of 4 label maps in .* are {kind} \('t1.png'\); convert them"):
        check_pairs(split, CLASSES)


def test_palettes_are_read_as_indices(split: Ade20kSplit):
    for stem in split.stems:
        image = Image.open(split.label_dir / f"{stem}.png")
        image.putpalette([200, 100, 50] * 4)
        image.save(split.label_dir / f"{stem}.png")
    assert check_pairs(split, CLASSES) == (0.75, ())


def test_split_without_a_label_is_refused(split: Ade20kSplit, relabel: Callable):
    for stem in split.stems:
        relabel(stem, np.full((30, 40), 255, np.uint8))
    with pytest.raises(UserError, match=r"no pixel of the 4 label maps in .* has a class"):
        check_pairs(split, CLASSES)


@pytest.fixture
def spoilt(split: Ade20kSplit, relabel: Callable) -> Ade20kSplit:
    """Three of the four pairs are bad: a truncated image, an empty label map, unequal sizes."""
    image = split.image_dir / "t0.jpg"
    image.write_bytes(image.read_bytes()[:300])
    (split.label_dir / "t1.png").write_bytes(b"")
    relabel("t2", np.ones((40, 30), np.uint8))
    return split


def test_bad_pairs_are_named_with_the_reason(spoilt: Ade20kSplit):
    truncated, empty, unequal = find_bad_pairs(spoilt)
    assert truncated.name == "t0"
    assert truncated.reason.startswith("image: ")
    assert empty == BadImage("t1", "label map: cannot identify image file")
    assert unequal == BadImage(
        "t2", "the image is 40x30, its label map 30x40 (images are turned as their EXIF orientation says)"
    )


def test_bad_pairs_are_left_out_of_what_mmseg_reads(spoilt: Ade20kSplit, tmp_path: Path):
    from mmseg.datasets import BaseSegDataset

    bad = find_bad_pairs(spoilt)
    good = without_pairs(spoilt, bad, tmp_path / "run" / "good.txt")
    assert good == replace(spoilt, stems=("t3",), list_file=tmp_path / "run" / "good.txt")
    assert find_bad_pairs(good) == []
    assert good.image_count == 1
    check_pairs(good, CLASSES)
    dataset = BaseSegDataset(
        ann_file=str(good.list_file),
        data_root="",
        data_prefix={"img_path": str(good.image_dir), "seg_map_path": str(good.label_dir)},
    )
    assert [item["img_path"] for item in dataset] == [str(good.image_dir / "t3.jpg")]
    assert [item["seg_map_path"] for item in dataset] == [str(good.label_dir / "t3.png")]


def test_nothing_left_is_refused(spoilt: Ade20kSplit, tmp_path: Path):
    only_bad = replace(spoilt, stems=("t0", "t1"))
    with pytest.raises(UserError, match=r"without its 2 bad images and label maps \('t0', 't1'\) .* has none left"):
        without_pairs(only_bad, find_bad_pairs(only_bad), tmp_path / "good.txt")
    assert not (tmp_path / "good.txt").exists()


@pytest.mark.parametrize("stem", ["t3 ", " t3", "t\n3"])
def test_stems_that_no_list_can_hold(spoilt: Ade20kSplit, tmp_path: Path, stem: str):
    (spoilt.image_dir / "t3.jpg").rename(spoilt.image_dir / f"{stem}.jpg")
    (spoilt.label_dir / "t3.png").rename(spoilt.label_dir / f"{stem}.png")
    renamed = replace(spoilt, stems=(*spoilt.stems[:3], stem))
    with pytest.raises(UserError, match="cannot stand in a list of images"):
        without_pairs(renamed, find_bad_pairs(renamed), tmp_path / "good.txt")
    assert not (tmp_path / "good.txt").exists()


def test_unreadable_label_maps_do_not_hide_the_others_mistakes(spoilt: Ade20kSplit):
    with pytest.raises(UserError, match=r"2 of 2 label maps in .* \(t0.png: 2, 3; t3.png: 2, 3\)"):
        check_pairs(replace(spoilt, stems=("t0", "t1", "t3")), ("cat",))
    with pytest.raises(UserError, match=r"none of the 1 label maps in .* can be read"):
        check_pairs(replace(spoilt, stems=("t1",)), CLASSES)


def test_files_that_vanish_are_bad(split: Ade20kSplit):
    (split.label_dir / "t1.png").unlink()
    (split.image_dir / "t3.jpg").unlink()
    assert find_bad_pairs(split) == [
        BadImage("t1", "label map: there is no such file"),
        BadImage("t3", "image: there is no such file"),
    ]


def test_progress_counts_label_maps_then_images_and_nothing_twice(split: Ade20kSplit):
    seen: list[tuple[int, int]] = []
    find_bad_pairs(split, lambda *done: seen.append(done))
    check_pairs(split, CLASSES)
    assert seen == [(4, 4), (4, 4)]
