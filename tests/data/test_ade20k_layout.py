from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fvnet_mm.data.ade20k_layout import Ade20kFolder, Ade20kSplit, as_split, find_ade20k, find_classes
from fvnet_mm.data.classes import ADE20K_CLASSES
from fvnet_mm.errors import UserError


def split_of(root: Path, name: str, folder: str, stems: tuple[str, ...]) -> Ade20kSplit:
    return Ade20kSplit(name, root / "images" / folder, root / "annotations" / folder, stems)


def test_all_that_is_found(ade20k_root: Path):
    folder = find_ade20k(ade20k_root)
    assert folder == Ade20kFolder(
        ade20k_root,
        ("cat", "dog", "fish"),
        split_of(ade20k_root, "train", "training", ("t0", "t1", "t2", "t3")),
        split_of(ade20k_root, "val", "validation", ("v0", "v1", "v2")),
    )
    assert folder.train.image_count == 4
    assert folder.val.image_names == ["v0.jpg", "v1.jpg", "v2.jpg"]
    assert folder.val.label_names == ["v0.png", "v1.png", "v2.png"]


def test_a_test_needs_no_training_images(ade20k_root: Path):
    for part in ("images", "annotations"):
        (ade20k_root / part / "training").rename(ade20k_root / f"{part}_away")
    folder = find_ade20k(ade20k_root, ["val"])
    assert folder.train is None
    assert folder.val.image_count == 3
    with pytest.raises(UserError, match=r"images/training does not exist, where the images are expected"):
        find_ade20k(ade20k_root)


def test_folder_around_the_archive_is_accepted(tmp_path: Path, write_ade20k: Callable):
    inner = write_ade20k(tmp_path / "ADEChallengeData2016", classes=None)
    folder = find_ade20k(tmp_path)
    assert folder.root == inner
    assert folder.classes == ADE20K_CLASSES


def test_mmseg_reads_exactly_what_is_found(ade20k_root: Path):
    """Subfolders, an upper-case suffix, hidden files and files of another kind."""
    from mmseg.datasets import BaseSegDataset

    images, labels = ade20k_root / "images" / "training", ade20k_root / "annotations" / "training"
    for file in [*images.iterdir(), *labels.iterdir()]:
        target = file.parent / "city" / file.name if file.stem == "t2" else file
        target = target.with_suffix(".JPG") if file.suffix == ".jpg" else target
        target.parent.mkdir(exist_ok=True)
        file.rename(target)
    for junk in ("._t0.JPG", "notes.txt", "Thumbs.db"):
        (images / junk).write_bytes(b"")
    split = find_ade20k(ade20k_root).train
    assert (split.stems, split.image_suffix) == (("city/t2", "t0", "t1", "t3"), ".JPG")
    dataset = BaseSegDataset(
        img_suffix=split.image_suffix,
        seg_map_suffix=split.label_suffix,
        data_prefix={"img_path": str(split.image_dir), "seg_map_path": str(split.label_dir)},
    )
    assert [item["img_path"] for item in dataset] == [str(images / name) for name in split.image_names]
    assert [item["seg_map_path"] for item in dataset] == [str(labels / name) for name in split.label_names]


@pytest.mark.parametrize("suffix", [".jpeg", ".png", ".bmp"])
def test_images_may_have_another_suffix(ade20k_root: Path, suffix: str):
    for file in (ade20k_root / "images" / "validation").iterdir():
        file.rename(file.with_suffix(suffix))
    folder = find_ade20k(ade20k_root)
    assert (folder.train.image_suffix, folder.val.image_suffix) == (".jpg", suffix)


def remove(*names: str) -> Callable[[Path], None]:
    return lambda root: [(root / name).unlink() for name in names]


def rename(old: str, new: str) -> Callable[[Path], None]:
    return lambda root: (root / old).rename(root / new)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (rename("images/training/t1.jpg", "images/training/t1.png"), r"different suffixes \(3 \.jpg, 1 \.png\)"),
        (rename("images/training/t1.jpg", "images/training/t1.JPG"), r"different suffixes \(1 \.JPG, 3 \.jpg\)"),
        (remove("annotations/training/t1.png"), r"1 images have no label map \('t1'\) in .*training and .*training"),
        (remove("images/training/t1.jpg", "images/training/t2.jpg"), r"2 label maps have no image \('t1', 't2'\)"),
        (
            rename("annotations/training/t1.png", "annotations/training/t1_L.png"),
            r"1 images have no label map \('t1'\) and 1 label maps have no image \('t1_L'\) .* but for \.jpg and \.png",
        ),
        (remove(*(f"annotations/training/t{i}.png" for i in range(4))), r"training has no label maps \(\.png\)"),
        (rename("annotations", "labels"), "annotations/training does not exist, where the label maps are expected"),
    ],
)
def test_missing_and_unpaired_files_are_named(ade20k_root: Path, spoil: Callable, sentence: str):
    spoil(ade20k_root)
    with pytest.raises(UserError, match=sentence):
        find_ade20k(ade20k_root)


def test_absent_folder(tmp_path: Path):
    with pytest.raises(UserError, match="nowhere does not exist; it is to hold images/training"):
        find_ade20k(tmp_path / "nowhere")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val.json").touch()
    with pytest.raises(UserError, match=r"is in COCO's layout .* detectors \(retinanet_.*of segmentors"):
        find_ade20k(tmp_path)


def test_list_file_names_the_pairs_to_use(ade20k_root: Path, tmp_path: Path):
    listed = tmp_path / "list.txt"
    listed.write_text("t3\nt1\n")
    (ade20k_root / "annotations" / "training" / "t0.png").unlink()  # not in the list, so not missed
    folders = (ade20k_root / "images" / "training", ade20k_root / "annotations" / "training")
    split = as_split("train", *folders, listed)
    assert (split.stems, split.list_file) == (("t1", "t3"), listed)
    listed.write_text("t1\nt9\n")
    with pytest.raises(UserError, match=r"list.txt names 1 of 2 images that are not in .*'t9'"):
        as_split("train", *folders, listed)
    listed.write_text("\n")
    with pytest.raises(UserError, match=r"list.txt is empty"):
        as_split("train", *folders, listed)
    listed.write_bytes(b"t1\ncaf\xe9\n")
    with pytest.raises(UserError, match=r"list.txt: byte 6 is no UTF-8 text; save the file as UTF-8\.$"):
        as_split("train", *folders, listed)
    listed.unlink()
    with pytest.raises(UserError, match=r"list.txt does not exist"):
        as_split("train", *folders, listed)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=6).filter(
    lambda name: not name.startswith("#")
)


@given(st.lists(NAMES, min_size=1, max_size=254, unique=True), st.sampled_from(["\n", "\r\n"]), st.booleans())
@settings(deadline=None, max_examples=50)
def test_classes_are_the_lines(tmp_path_factory: pytest.TempPathFactory, names: list[str], end: str, marked: bool):
    root = tmp_path_factory.mktemp("classes")
    text = "# the classes" + end + end.join(f" {name} " for name in names) + end + end
    (root / "classes.txt").write_bytes(text.encode("utf-8-sig" if marked else "utf-8"))
    assert find_classes(root) == tuple(names)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "classes.txt is empty; write the classes into it"),
        (b"# nothing\n\n", "classes.txt is empty"),
        (b"# two\ncat\n\ndog\n", "line 3 is empty, so it is unclear which label"),
        (b"cat\ndog\ncat\n", "'cat' are there more than once"),
        (b"caf\xe9\n", "byte 3 is no UTF-8 text"),
        ("\n".join(map(str, range(255))).encode(), "has 255 classes; 8-bit label maps have room for 254"),
    ],
)
def test_class_lists_that_mix_up_labels(tmp_path: Path, content: bytes, sentence: str):
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        find_classes(tmp_path)


INFO = "Idx\tRatio\tTrain\tVal\tName\n" + "".join(
    f"{label}{' ' * (label == 22)}\t0.1\t2\t1\t{name}, synonym\n" for label, name in enumerate(ADE20K_CLASSES, 1)
)


def test_ade20k_is_known_by_its_own_files(tmp_path: Path):
    with pytest.raises(UserError, match=r"does not say which classes it has: write them into .*classes.txt"):
        find_classes(tmp_path)
    (tmp_path / "sceneCategories.txt").write_text("ADE_train_00000001 beach\n")
    assert find_classes(tmp_path) == ADE20K_CLASSES
    (tmp_path / "objectInfo150.txt").write_text(INFO)
    assert find_classes(tmp_path) == ADE20K_CLASSES
    (tmp_path / "classes.txt").write_text("cat\n")
    assert find_classes(tmp_path) == ("cat",)


@pytest.mark.parametrize("content", ["", "Idx\n", INFO[:2000], INFO.replace("\n7\t", "\n8\t")])
def test_table_of_other_classes_is_no_ade20k(tmp_path: Path, content: str):
    (tmp_path / "objectInfo150.txt").write_text(content)
    with pytest.raises(UserError, match=r"is not the table of ADE20K's 150 classes .* write .*classes.txt"):
        find_classes(tmp_path)


def full_2021(root: Path) -> None:
    scene = root / "ADE20K_2021_17_01" / "images" / "ADE" / "training" / "urban" / "street"
    scene.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(scene / "ADE_train_00016858_seg.png")
    (root / "ADE20K_2021_17_01" / "index_ade20k.pkl").write_bytes(b"")


def full_2016(root: Path) -> None:
    for part in ("training", "validation"):
        scene = root / "ADE20K_2016_07_26" / "images" / part / "b" / "beach"
        scene.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(scene / "ADE_00000001.jpg")
        Image.new("RGB", (4, 4)).save(scene / "ADE_00000001_seg.png")


@pytest.mark.parametrize(
    ("write", "sign"),
    [(full_2021, "it has index_ade20k.pkl"), (full_2016, "it has images/training/b/beach/ADE_00000001_seg.png")],
)
@pytest.mark.parametrize("place", ["around", "itself", "renamed"])
def test_full_ade20k_is_recognised(tmp_path: Path, write: Callable, sign: str, place: str):
    write(tmp_path)
    (root,) = tmp_path.iterdir()
    if place == "renamed":
        root = root.rename(tmp_path / "ade20k")
    with pytest.raises(UserError, match=rf"is the full ADE20K \({sign}\).* get ADEChallengeData2016.zip"):
        find_ade20k(tmp_path if place == "around" else root)


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize(
    ("write", "inner", "sign"),
    [
        (full_2021, "images", "it has index_ade20k.pkl"),
        (full_2021, "images/ADE", "it has index_ade20k.pkl"),
        (full_2021, "images/ADE/training", "it has index_ade20k.pkl"),
        (full_2016, "images", "it has images/training/b/beach/ADE_00000001_seg.png"),
        (full_2016, "images/validation", "it has images/training/b/beach/ADE_00000001_seg.png"),
    ],
)
def test_full_ade20k_is_recognised_from_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable, inner: str, sign: str, renamed: bool
):
    write(tmp_path)
    (root,) = tmp_path.iterdir()
    if renamed:
        root = root.rename(tmp_path / "ade20k")
    sentence = rf"{root} is the full ADE20K \({sign}\).* get ADEChallengeData2016.zip"
    for place in (root / inner, Path()):  # as it is typed inside the folder, too
        monkeypatch.chdir(root / inner)
        with pytest.raises(UserError, match=sentence):
            find_ade20k(place)


def test_a_folder_called_images_elsewhere_is_no_ade20k(tmp_path: Path):
    (tmp_path / "images" / "training").mkdir(parents=True)
    with pytest.raises(UserError, match=r"images/images/training does not exist, where the images are expected"):
        find_ade20k(tmp_path / "images")


def test_full_ade20k_is_recognised_by_its_name(tmp_path: Path):
    (tmp_path / "ADE20K_2021_17_01" / "images").mkdir(parents=True)
    with pytest.raises(UserError, match=r"is the full ADE20K \(its name says so\)"):
        find_ade20k(tmp_path)


def test_full_ade20k_beside_the_right_one_does_no_harm(ade20k_root: Path):
    full_2021(ade20k_root)
    assert find_ade20k(ade20k_root).val.image_count == 3
