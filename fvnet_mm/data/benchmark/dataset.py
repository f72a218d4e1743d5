"""The benchmark as a folder that is COCO's and ADE20K's layout at once, made by several processes.

::

    images/{training,validation,test}/*.jpg
    annotations/{training,validation,test}/*.png      semantic labels, 0 for none
    annotations/instances_{train,val,test}.json       boxes, and masks as run lengths
    classes.txt                                       of the semantic labels, that of 1 first
    benchmark.json                                    settings and fingerprints
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import filelock
from pycocotools import mask as coco_mask

from fvnet_mm.cores import usable_cores
from fvnet_mm.data.ade20k_layout import CLASSES_FILE
from fvnet_mm.data.benchmark.classes import IMAGE_SIZE, SEMANTIC_CLASSES, THINGS, VERSION
from fvnet_mm.data.benchmark.scene import draw_scene, shrink
from fvnet_mm.data.kinds import Array
from fvnet_mm.errors import UserError
from fvnet_mm.files import write_text, written_or_said

SIZES = {"train": 20_000, "val": 2_000, "test": 2_000}
"""Images of each split of the whole benchmark."""

FOLDERS = {"train": "training", "val": "validation", "test": "test"}
"""Folder of each split below ``images`` and ``annotations``."""

SETTINGS_FILE = "benchmark.json"

_PARTS, _DRAWN = "parts", "settings.json"  # of an unfinished set: what its chunks say, and what they are drawn with

CHUNK = 25
"""Images that are made, and lost when the making is killed, together."""

JPEG_QUALITY = 95

_FIRST_IDS = {"train": 1, "val": 500_001, "test": 600_001}  # as in COCO, no image's id is in two splits
_LIMITS = {"train": 500_000, "val": 100_000, "test": 100_000}
_ANNOTATIONS_PER_IMAGE = 100  # room in the annotations' ids, which are therefore the image's own affair


class _Chunk(NamedTuple):
    split: str
    start: int
    stop: int

    @property
    def part(self) -> str:
        """Its file among the parts, which says when it is there that all the chunk's images are."""
        return f"{self.split}_{self.start:06d}_{self.stop:06d}.json"


def write_shapes(
    root: Path,
    sizes: Mapping[str, int] = SIZES,
    image_size: int = IMAGE_SIZE,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, object]:
    """Write the benchmark, or go on with it where an earlier call was killed.

    Until it is whole it is in a hidden folder beside ``root``, so ``root`` is never half a set. A split of fewer images
    is the beginning of one with more.

    Args:
        root: folder of the set, or a link to it; its parents are made.
        sizes: images of each split, by the names of :data:`SIZES`.
        image_size: width and height in pixels; below :data:`IMAGE_SIZE` the same scenes are scaled down.
        seed: of the set; the benchmark's is 0.
        workers: processes; by default as many as there are CPU cores for this one.
        progress: called with (images done, images in all).

    Returns:
        The content of ``benchmark.json``: settings, and the fingerprint of every split.

    Raises:
        ValueError: a number is out of its range.
        UserError: ``root`` holds something else or cannot be written, another process is writing it, or a split is
            larger than its ids allow.
    """
    if not 64 <= image_size <= IMAGE_SIZE or min(sizes.values()) < 1 or sizes.keys() != SIZES.keys() or seed < 0:
        raise ValueError(
            f"{dict(sizes)} images of {image_size} pixels, seed {seed}: {', '.join(SIZES)}, 64 to {IMAGE_SIZE} pixels, "
            "and a seed of at least 0"
        )
    for split, limit in _LIMITS.items():
        if sizes[split] > limit:
            raise UserError(f"the shapes benchmark has at most {limit:,} images in {split}, not {sizes[split]:,}.")
    root = Path(os.path.realpath(root))  # a link to a folder is no place to rename one to, and may be on another disk
    settings = {"name": "shapes", "version": VERSION, "seed": seed, "images": dict(sizes), "image_size": image_size}
    with written_or_said(str(root)):
        root.parent.mkdir(parents=True, exist_ok=True)
        unfinished = root.with_name(f".{root.name}.unfinished")
        lock = Path(f"{unfinished}.lock")
        try:
            with filelock.FileLock(lock, timeout=0):
                try:
                    return _read_whole(root, settings) or _write(root, unfinished, settings, workers, progress)
                finally:
                    lock.unlink(missing_ok=True)
        except filelock.Timeout as error:
            raise UserError(f"another process is writing {root}; wait for it, or name another folder.") from error


def _write(
    root: Path,
    unfinished: Path,
    settings: Mapping[str, object],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> dict[str, object]:
    """Makes the set in the unfinished folder, gives it its name, and returns what it says of itself."""
    said = unfinished / SETTINGS_FILE
    if said.is_file() and not _holds(json.loads(said.read_text(encoding="utf-8")), settings):
        said.unlink()
    if not said.is_file():
        _make(unfinished, settings, workers, progress)
    # Else it was killed between its last file and its name.
    shutil.rmtree(unfinished / _PARTS, ignore_errors=True)
    (unfinished / _DRAWN).unlink(missing_ok=True)
    if root.is_dir():
        root.rmdir()  # an empty one
    unfinished.replace(root)
    return json.loads((root / SETTINGS_FILE).read_text(encoding="utf-8"))


def _holds(found: Mapping[str, object], settings: Mapping[str, object]) -> bool:
    return all(found.get(key) == value for key, value in settings.items())


def _read_whole(root: Path, settings: Mapping[str, object]) -> dict[str, object] | None:
    """What a finished set with these settings says of itself; None where nothing is there."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    try:
        found = json.loads((root / SETTINGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{root} exists and is no shapes benchmark; name another folder, or empty this one.")
    differing = [
        f"{key} {found.get(key)} instead of {value}" for key, value in settings.items() if found.get(key) != value
    ]
    if differing:
        raise UserError(
            f"{root} holds the shapes benchmark with other settings ({', '.join(differing)}); name another folder, or "
            "remove this one."
        )
    return found


def _make(
    folder: Path, settings: Mapping[str, object], workers: int | None, progress: Callable[[int, int], None] | None
) -> None:
    """Fill a folder with all that is not in it yet; last with the file that says that all is."""
    parts = folder / _PARTS
    state = folder / _DRAWN
    drawn = {key: value for key, value in settings.items() if key != "images"}  # images that are there fit any number
    if folder.exists() and (not state.is_file() or json.loads(state.read_text(encoding="utf-8")) != drawn):
        shutil.rmtree(folder)
    for split_folder in FOLDERS.values():
        (folder / "images" / split_folder).mkdir(parents=True, exist_ok=True)
        (folder / "annotations" / split_folder).mkdir(parents=True, exist_ok=True)
    parts.mkdir(exist_ok=True)
    write_text(state, json.dumps(drawn))
    chunks = list(_chunks(settings["images"]))
    missing = [chunk for chunk in chunks if not (parts / chunk.part).is_file()]
    total = sum(settings["images"].values())
    done = total - sum(chunk.stop - chunk.start for chunk in missing)
    # A fresh interpreter each: threads of this one would not survive a fork.
    context = multiprocessing.get_context("spawn")
    count = min(workers or usable_cores(), max(len(missing), 1))
    with concurrent.futures.ProcessPoolExecutor(count, context, initializer=_start_worker) as pool:
        try:
            waiting = {
                pool.submit(_write_chunk, folder, settings["seed"], settings["image_size"], chunk): chunk
                for chunk in missing
            }
            for future in concurrent.futures.as_completed(waiting):
                future.result()
                done += waiting[future].stop - waiting[future].start
                if progress:
                    progress(done, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    wanted = {chunk.part for chunk in chunks}
    for part in parts.iterdir():  # or a larger set would later take them for its images, which are removed next
        if part.name not in wanted:
            part.unlink()
    prints = {split: _join(folder, split, [chunk for chunk in chunks if chunk.split == split]) for split in SIZES}
    names = "".join(f"{name}\n" for name in SEMANTIC_CLASSES)
    (folder / CLASSES_FILE).write_text(names, encoding="utf-8")
    write_text(folder / SETTINGS_FILE, json.dumps({**settings, "fingerprints": prints}, indent=2) + "\n")


def _start_worker() -> None:
    """Keeps a worker to one core, and ends it when the process that it works for is killed."""
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _chunks(sizes: Mapping[str, int]) -> Iterator[_Chunk]:
    for split in ("val", "test", "train"):
        for start in range(0, sizes[split], CHUNK):
            yield _Chunk(split, start, min(start + CHUNK, sizes[split]))


def _write_chunk(root: Path, seed: int, image_size: int, chunk: _Chunk) -> None:
    """Write a chunk's images and label maps, and last its part, which has their annotations and digests."""
    images, annotations, digests = [], [], []
    for index in range(chunk.start, chunk.stop):
        scene = shrink(draw_scene(seed, chunk.split, index), image_size)
        name = f"{chunk.split}_{index:06d}"
        jpeg = cv2.imencode(".jpg", scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
        png = cv2.imencode(".png", scene.labels)[1].tobytes()
        (root / "images" / FOLDERS[chunk.split] / f"{name}.jpg").write_bytes(jpeg)
        (root / "annotations" / FOLDERS[chunk.split] / f"{name}.png").write_bytes(png)
        image_id = _FIRST_IDS[chunk.split] + index
        images.append({"id": image_id, "file_name": f"{name}.jpg", "width": image_size, "height": image_size})
        first = image_id * _ANNOTATIONS_PER_IMAGE
        own = [_annotate(first + i, image_id, item.thing, item.mask) for i, item in enumerate(scene.instances)]
        annotations += own
        digests.append(hashlib.sha256(jpeg + png + json.dumps(own).encode()).hexdigest())
    part = {"images": images, "annotations": annotations, "digests": digests}
    write_text(root / _PARTS / chunk.part, json.dumps(part))


def _annotate(number: int, image_id: int, thing: int, mask: Array) -> dict[str, object]:
    run_lengths = coco_mask.encode(mask.astype("uint8", order="F"))
    return {
        "id": number,
        "image_id": image_id,
        "category_id": thing + 1,
        "bbox": coco_mask.toBbox(run_lengths).tolist(),
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": {"size": list(mask.shape), "counts": run_lengths["counts"].decode("ascii")},
    }


def _join(root: Path, split: str, chunks: list[_Chunk]) -> str:
    """Write a split's annotation file from its parts and remove what is in none; returns the split's fingerprint."""
    pieces = [json.loads((root / _PARTS / chunk.part).read_text(encoding="utf-8")) for chunk in chunks]
    document = {
        "info": {"description": "The shapes benchmark", "version": str(VERSION)},
        "images": [image for piece in pieces for image in piece["images"]],
        "annotations": [annotation for piece in pieces for annotation in piece["annotations"]],
        "categories": [{"id": number, "name": name} for number, name in enumerate(THINGS, 1)],
    }
    names = {Path(image["file_name"]).stem for image in document["images"]}
    for part in ("images", "annotations"):
        for file in (root / part / FOLDERS[split]).iterdir():
            if file.stem not in names:
                file.unlink()
    write_text(root / "annotations" / f"instances_{split}.json", json.dumps(document))
    return hashlib.sha256("".join(digest for piece in pieces for digest in piece["digests"]).encode()).hexdigest()
