"""Splits a folder in ADE20K's layout anew: the first images by name for training, the rest for validation.

python docs/split_by_name.py data/camvid data/camvid_later

Frames of a video are named in their order. Where every third is for validation, each has its twins among those for
training; where the last are, they show what the training has not seen. As many are for either as before.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from fvnet_mm.cli import run_tool
from fvnet_mm.data.ade20k_layout import SPLIT_FOLDERS, find_ade20k
from fvnet_mm.errors import UserError
from fvnet_mm.files import new_folder


def split_by_name(source: Path, target: Path) -> dict[str, list[str]]:
    """Copies a folder, split anew, and returns the names of the images of each split.

    Raises:
        UserError: The source is not in the layout, or the target exists.
    """
    folder = find_ade20k(source)
    pairs = {
        image: (split.image_dir / image, split.label_dir / label)
        for split in (folder.train, folder.val)
        for image, label in zip(split.image_names, split.label_names, strict=True)
    }
    if len(pairs) < folder.train.image_count + folder.val.image_count:
        raise UserError(f"{source} has an image of one name in both splits; rename one.")
    names = sorted(pairs)
    first = folder.train.image_count
    found = dict(zip(SPLIT_FOLDERS.values(), (names[:first], names[first:]), strict=True))
    with new_folder(target) as partial:
        for split, images in found.items():
            for image in images:
                for kind, file in zip(("images", "annotations"), pairs[image], strict=True):
                    place = (partial / kind / split / image).with_suffix(file.suffix)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, place)
        for file in filter(Path.is_file, folder.root.iterdir()):  # such as classes.txt
            shutil.copyfile(file, partial / file.name)
    return found


def report(arguments: argparse.Namespace) -> None:
    """Splits, and says what lies where."""
    for split, names in split_by_name(arguments.source, arguments.target).items():
        print(f"{split}: {len(names)} images, {names[0]} to {names[-1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="the folder to split anew; it stays as it is")
    parser.add_argument("target", type=Path, help="the folder to make")
    run_tool(report, parser)


if __name__ == "__main__":
    main()
