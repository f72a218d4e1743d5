"""mmdet's COCO data set that remembers what it made of an annotation file."""

import contextlib
import hashlib
import io
import json
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmengine.registry import DATASETS

from fvnet_mm.data.cache import Stamp, cache_file, file_stamp
from fvnet_mm.data.coco_document import CocoDocument
from fvnet_mm.files import replacing

_VERSION = 1
_documents: dict[Path, CocoDocument] = {}


def hand_over(document: CocoDocument) -> None:
    """Spares the next :class:`IndexedCocoDataset` of a document's file parsing it again; it is let go of then."""
    _documents[document.path.resolve()] = document


def let_go_of_all_but(paths: Collection[Path]) -> None:
    """Lets go of what was handed over and will not be asked for; of COCO's annotations that is gigabytes."""
    for path in _documents.keys() - {path.resolve() for path in paths}:
        del _documents[path]


@DATASETS.register_module()
class IndexedCocoDataset(CocoDataset):
    """mmdet's ``CocoDataset``, with its arguments, which parses an annotation file once and not at every start.

    What mmdet parses, filters and serialises is kept in the user's cache folder until the file or a setting changes.
    Outlines are left out where no transform loads masks, which makes the images' entries several times smaller.
    """

    def full_init(self) -> None:
        """Loads the entries of all images."""
        if self._fully_initialized:
            return
        whole = self.serialize_data and self._indices is None and self.proposal_file is None
        kept = cache_file(Path(f"{self.ann_file}.{_digest(self._settings())}"), "datasets", ".npy")
        if whole and self._load(kept):
            return
        self._stamp: Stamp | None = None
        with contextlib.suppress(OSError):  # mmdet opens it from wherever its settings say
            self._stamp = file_stamp(Path(self.ann_file))  # before it is read
        super().full_init()
        if whole and self._stamp is not None:
            self._save(kept)

    def COCOAPI(self, path: str) -> COCO:
        """Opens an annotation file, or takes over what has been read of it; mmdet calls it by this name."""
        document = _documents.pop(Path(path).resolve(), None)
        with contextlib.redirect_stdout(io.StringIO()):
            if document is None:
                return COCO(path)
            coco = COCO()
            sections = ("images", "annotations", "categories")
            coco.dataset = {name: getattr(document, name) for name in sections}
            coco.createIndex()
        self._stamp = document.stamp
        coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
        return coco

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Makes an image's entry as mmdet does."""
        entry = super().parse_data_info(raw_data_info)
        if not self._has_masks():
            for instance in entry["instances"]:
                instance.pop("mask", None)
        return entry

    def _has_masks(self) -> bool:
        return any(getattr(transform, "with_mask", False) for transform in self.pipeline.transforms)

    def _settings(self) -> list[object]:
        """All that the entries depend on but the file's content."""
        texts = [self.return_classes, self.caption_prompt, self.seg_map_suffix]
        settings = [self.metainfo, self.data_prefix, self.filter_cfg, self.test_mode, self._has_masks(), *texts]
        return [_VERSION, version("mmdet"), type(self).__qualname__, *settings]

    def _load(self, file: Path) -> bool:
        """Takes the entries from a file; says whether they were there and still hold."""
        try:
            with file.open("rb") as stream:
                head = json.loads(_read(stream).tobytes())
                if head["stamp"] != list(file_stamp(Path(self.ann_file))):
                    return False
                self.data_address, self.data_bytes = _read(stream), _read(stream)
        except (OSError, ValueError, KeyError, TypeError, EOFError):  # absent, cut short, or not as we write it
            return False
        self.cat_ids = head["category_ids"]
        self.cat2label = {number: label for label, number in enumerate(self.cat_ids)}
        self._fully_initialized = True
        return True

    def _save(self, file: Path) -> None:
        # A home that can't be written to costs the next run some time, no more.
        with contextlib.suppress(OSError), replacing(file) as temporary, temporary.open("wb") as stream:
            head = json.dumps(dict(stamp=self._stamp, category_ids=self.cat_ids))
            for array in (np.frombuffer(head.encode(), np.uint8), self.data_address, self.data_bytes):
                np.save(stream, array, allow_pickle=False)


def _read(stream: BinaryIO) -> np.ndarray:
    return np.load(stream, allow_pickle=False)


def _digest(settings: list[object]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]
