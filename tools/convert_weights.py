"""Turns the checkpoint of a classifier into a file of its backbone, for init_cfg of any config.

python tools/convert_weights.py work_dirs/fvnet_s_in1k/epoch_300.pth fvnet_s_in1k.safetensors
"""

import argparse
from pathlib import Path

from fvnet_mm.cli import run_tool


def convert_weights_parser() -> argparse.ArgumentParser:
    """The tool's flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "source",
        type=Path,
        metavar="IN",
        help="checkpoint of this suite, of mmpretrain or of timm (.pth, .safetensors)",
    )
    parser.add_argument(
        "target",
        type=Path,
        metavar="OUT",
        help="backbone file to write; its suffix, .safetensors or .pth, is the format",
    )
    parser.add_argument("--prefix", help="part of the checkpoint to take (default: backbone, where there is one)")
    parser.add_argument("--force", action="store_true", help="write over OUT if it exists")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Imports late, so that --help answers at once."""
    from fvnet_mm.engine.convert import convert

    done = convert(arguments.source, arguments.target, arguments.prefix, arguments.force)
    origin = done.provenance
    taken = ".".join(filter(None, (str(origin["container"]), str(origin["prefix"]).rstrip(".")))) or "all"
    print(
        f"wrote {done.path}: {origin['tensors']} tensors, {done.values / 1e6:.2f} M values, "
        f"from {taken}{' (moving average)' if origin['averaged'] else ''} of {origin['source']}, "
        f"{origin['tensors_dropped']} tensors dropped\nsha256 {done.sha256}"
    )


if __name__ == "__main__":
    run_tool(main, convert_weights_parser())
