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
from fvnet_mm.errors import UserError

SPLITS = ("training", "validation")


def split_by_name(source: Path, target: Path) -> dict[str, list[str]]:
    """Copies a folder, split anew, and returns the names of the images of each split.

    Raises:
        UserError: The source is not in the layout, an image has no annotation, or the target exists.
    """
    if target.exists():
        raise UserError(f"{target} exists; remove it or name another folder.")
    places = [source / kind / split for kind in ("images", "annotations") for split in SPLITS]
    lacking = next((place for place in places if not place.is_dir()), None)
    if lacking is not None:
        raise UserError(f"{source} is not in ADE20K's layout: it has no folder {lacking.relative_to(source)}.")
    images = sorted((file for split in SPLITS for file in (source / "images" / split).iterdir()), key=lambda f: f.name)
    annotations = {file.stem: file for split in SPLITS for file in (source / "annotations" / split).iterdir()}
    bare = next((image for image in images if image.stem not in annotations), None)
    if bare is not None:
        raise UserError(f"{bare} has no annotation of its name; complete {source} first.")
    first = len(list((source / "images" / SPLITS[0]).iterdir()))
    found = dict(zip(SPLITS, (images[:first], images[first:]), strict=True))
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for split, files in found.items():
        for image in files:
            for kind, file in (("images", image), ("annotations", annotations[image.stem])):
                place = partial / kind / split / file.name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
    for file in filter(Path.is_file, source.iterdir()):  # such as classes.txt
        shutil.copyfile(file, partial / file.name)
    partial.rename(target)
    return {split: [file.name for file in files] for split, files in found.items()}


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
