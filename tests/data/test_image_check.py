import errno
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fvnet_mm.data import image_check
from fvnet_mm.data.image_check import decode_images, decode_labels

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.webp", "a.tif"])
def test_size_is_that_which_opencv_shows(tmp_path: Path, name: str):
    Image.fromarray(PIXELS).save(tmp_path / name)
    facts = decode_images(tmp_path, [name])[name]
    height, width = cv2.imread(str(tmp_path / name)).shape[:2]
    assert (facts.width, facts.height, facts.fault) == (width, height, None)


@pytest.mark.parametrize(("width", "height"), [(7, 60), (60, 7), (1, 1), (8, 8)])
def test_jpegs_too_small_for_an_eighth_are_sound(tmp_path: Path, width: int, height: int):
    Image.fromarray(PIXELS[:height, :width]).save(tmp_path / "a.jpg")
    facts = decode_images(tmp_path, ["a.jpg"])["a.jpg"]
    assert (facts.width, facts.height, facts.fault) == (width, height, None)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_size_as_opencv_does(tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=exif)
    facts = decode_images(tmp_path, ["a.jpg"])["a.jpg"]
    assert (facts.height, facts.width) == cv2.imread(str(tmp_path / "a.jpg")).shape[:2]


def test_tiffs_that_opencv_cannot_decode_are_faulty(tmp_path: Path):
    Image.fromarray(PIXELS[..., 0].astype(np.float32)).save(tmp_path / "floats.tif")
    Image.fromarray(PIXELS).save(tmp_path / "bytes.tif")
    facts = decode_images(tmp_path, ["floats.tif", "bytes.tif"])
    assert facts["floats.tif"].fault.endswith("cannot read this TIFF of Pillow's mode F")
    assert facts["bytes.tif"].fault is None


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_truncated_files_are_faulty(tmp_path: Path, name: str, share: float):
    Image.fromarray(PIXELS).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    assert decode_images(tmp_path, [name])[name].fault


def test_absent_files_and_impossible_names_have_no_facts(tmp_path: Path):
    assert decode_images(tmp_path, ["gone.jpg", "zero\0.jpg", "long" * 200 + ".jpg"]) == {}


def test_only_changed_files_are_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = [f"{number}.png" for number in range(5)]
    for name in names:
        Image.fromarray(PIXELS).save(tmp_path / name)
    first = decode_images(tmp_path, names)
    decoded: list[str] = []
    decode = image_check._decode
    monkeypatch.setattr(image_check, "_decode", lambda file: decoded.append(file.name) or decode(file))
    assert decode_images(tmp_path, names) == first
    assert decoded == []
    Image.fromarray(PIXELS[:30]).save(tmp_path / "3.png")
    os.utime(tmp_path / "3.png", ns=(0, 12345))
    assert decode_images(tmp_path, names)["3.png"].height == 30
    assert decoded == ["3.png"]


@pytest.mark.parametrize("decode", [decode_images, decode_labels])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_fault_of_the_moment_is_described_and_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decode: Callable, number: int
):
    """The file itself does not change, so that its stamp says nothing."""
    for name in ("a.png", "b.png"):
        Image.fromarray(LABELS).save(tmp_path / name)
    open_image = Image.open

    def failing(file: Path) -> Image.Image:
        if file.name == "a.png":
            raise OSError(number, os.strerror(number), str(file))
        return open_image(file)

    monkeypatch.setattr(Image, "open", failing)
    facts = decode(tmp_path, ["a.png", "b.png"])
    assert (facts["a.png"].fault, facts["b.png"].fault) == (os.strerror(number), None)
    opened: list[str] = []
    monkeypatch.setattr(Image, "open", lambda file: opened.append(file.name) or open_image(file))
    facts = decode(tmp_path, ["a.png", "b.png"])
    assert (facts["a.png"].fault, facts["a.png"].width, opened) == (None, 80, ["a.png"])


def test_a_file_written_again_in_its_old_time_and_size_is_decoded_again(tmp_path: Path):
    """As ``cp -p`` does it."""
    for side, name in ((80, "a.bmp"), (40, "b.bmp")):
        Image.fromarray(PIXELS.reshape(-1, side, 3)).save(tmp_path / name)
    assert decode_images(tmp_path, ["a.bmp"])["a.bmp"].width == 80
    before = (tmp_path / "a.bmp").stat()
    (tmp_path / "a.bmp").write_bytes((tmp_path / "b.bmp").read_bytes())
    os.utime(tmp_path / "a.bmp", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (tmp_path / "a.bmp").stat().st_size == before.st_size
    assert decode_images(tmp_path, ["a.bmp"])["a.bmp"].width == 40


def test_as_many_threads_as_cores_may_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    threads: list[int] = []
    executor = image_check.ThreadPoolExecutor
    monkeypatch.setattr(image_check, "usable_cores", lambda: 3)
    monkeypatch.setattr(image_check, "ThreadPoolExecutor", lambda count: threads.append(count) or executor(count))
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    decode_images(tmp_path, ["a.png"])
    assert threads == [3]


def test_progress_reaches_the_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_check, "_CHUNK", 2)
    for number in range(5):
        Image.fromarray(PIXELS).save(tmp_path / f"{number}.png")
    seen: list[tuple[int, int]] = []
    decode_images(tmp_path, [f"{number}.png" for number in range(5)], lambda *done: seen.append(done))
    assert seen == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize("content", ["", "{}", '{"version": 2, "images": {"a.png": [1]}}', "[]"])
def test_spoilt_cache_is_ignored(tmp_path: Path, cache: Path, content: str):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    facts = decode_images(tmp_path, ["a.png"])
    (file,) = cache.rglob("*.json")
    file.write_text(content)
    assert decode_images(tmp_path, ["a.png"]) == facts


def test_cache_that_cannot_be_written_is_done_without(tmp_path: Path, cache: Path):
    cache.write_text("a file where the folder would be")
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert decode_images(tmp_path, ["a.png"])["a.png"].width == 80


def as_mmseg_reads(file: Path) -> np.ndarray:
    from mmseg.datasets.transforms import LoadAnnotations

    info = {"seg_map_path": str(file), "reduce_zero_label": False, "seg_fields": []}
    return LoadAnnotations()(info)["gt_seg_map"]


LABELS = np.random.default_rng(1).choice(np.array([0, 1, 7, 254, 255], np.uint8), (60, 80))
PALETTED = Image.fromarray(LABELS)
PALETTED.putpalette(np.random.default_rng(2).integers(0, 256, 768, np.uint8).tobytes())


@pytest.mark.parametrize(
    ("image", "mode"),
    [(Image.fromarray(LABELS), "L"), (PALETTED, "P"), (Image.fromarray(LABELS > 1), "1")],
    ids=["grey", "palette", "one bit"],
)
def test_label_values_are_those_that_mmseg_reads(tmp_path: Path, image: Image.Image, mode: str):
    image.save(tmp_path / "a.png")
    facts = decode_labels(tmp_path, ["a.png"])["a.png"]
    values, pixels = np.unique(as_mmseg_reads(tmp_path / "a.png"), return_counts=True)
    assert (facts.width, facts.height, facts.mode, facts.fault) == (80, 60, mode, None)
    assert (facts.values, facts.pixels) == (values.tolist(), pixels.tolist())


@pytest.mark.parametrize("pixels", [PIXELS, LABELS.astype(np.uint16)], ids=["colours", "16 bits"])
def test_pixels_of_more_than_a_byte_have_a_mode_and_no_values(tmp_path: Path, pixels: np.ndarray):
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    facts = decode_labels(tmp_path, ["a.png"])["a.png"]
    assert facts.mode == ("RGB" if pixels.ndim == 3 else "I;16")
    assert (facts.width, facts.height, facts.values, facts.fault) == (80, 60, [], None)


@pytest.mark.parametrize("share", [0, 0.05, 0.5, 0.95])
def test_truncated_labels_are_faulty(tmp_path: Path, share: float):
    PALETTED.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: int(share * len(content))])
    facts = decode_labels(tmp_path, ["a.png"])["a.png"]
    assert facts.fault
    assert str(tmp_path) not in facts.fault


def test_images_and_labels_of_one_folder_are_remembered_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    PALETTED.save(tmp_path / "a.png")
    image, label = decode_images(tmp_path, ["a.png"]), decode_labels(tmp_path, ["a.png"])
    for decode in ("_decode", "_decode_label"):
        monkeypatch.setattr(image_check, decode, None)  # fails when it is called
    assert decode_images(tmp_path, ["a.png"]) == image
    assert decode_labels(tmp_path, ["a.png"]) == label
