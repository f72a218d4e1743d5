"""Makes the shapes benchmark, which the *_shapes configs read: docs/shapes.md says what it is.

python tools/make_shapes.py data/shapes
python tools/make_shapes.py data/shapes --size 2000 --image-size 160
"""

import argparse
import time
from pathlib import Path

from fvnet_mm.cli import count, run_tool, seed


def make_shapes_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="folder of the set; a set that was interrupted is gone on with")
    parser.add_argument("--size", type=count, default=20_000, metavar="N", help="training images (default 20000)")
    parser.add_argument(
        "--val-size", type=count, default=2_000, metavar="N", help="validation images, and test images (default 2000)"
    )
    parser.add_argument(
        "--image-size",
        type=int,
        default=320,
        choices=range(64, 321, 32),
        metavar="PIXELS",
        help="width and height, a multiple of 32; below 320 (the default) the same images are scaled down",
    )
    parser.add_argument("--seed", type=seed, default=0, help="the benchmark's is 0")
    parser.add_argument("--workers", type=count, metavar="N", help="processes (default: one a CPU core)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Imports late, so that --help answers at once."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    from fvnet_mm.data.benchmark.dataset import write_shapes

    sizes = {"train": arguments.size, "val": arguments.val_size, "test": arguments.val_size}
    started = time.monotonic()
    with Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("images", total=sum(sizes.values()))
        found = write_shapes(
            arguments.root,
            sizes,
            arguments.image_size,
            arguments.seed,
            arguments.workers,
            lambda done, _: bar.update(task, completed=done),
        )
    for split, number in found["images"].items():
        print(f"{split:5}  {number:6,} images, fingerprint {found['fingerprints'][split][:12]}")
    print(f"{arguments.root} is there after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    run_tool(main, make_shapes_parser())
