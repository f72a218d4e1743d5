"""The table of FVNet's variants, counted from the code.

    python docs/variants.py                                    prints it
    python docs/variants.py --write README.md ...              puts it between the markers of these files
    python docs/variants.py --check README.md ...              exits with 1 where it is not what the code says

A file marks the table's place with the lines ``<!-- variants:begin -->`` and ``<!-- variants:end -->``.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import torch

from fvnet_mm.backbones import FVNet
from fvnet_mm.bench.complexity import count_macs, count_parameters
from fvnet_mm.files import replacing

BEGIN, END = "<!-- variants:begin -->", "<!-- variants:end -->"
IMAGE = (1, 3, 224, 224)
HEADER = (
    "Variant",
    "`arch`",
    "Parameters (M)",
    f"MACs at {IMAGE[2]}x{IMAGE[3]} (G)",
    "Channels",
    "Blocks",
    "Expansion",
)


def table() -> str:
    """Markdown table of all variants: the trunk alone, no classifier; a fused multiply-add is one MAC."""
    rows = [HEADER, ("---", "---", *["---:"] * (len(HEADER) - 2))]
    for name, arch in FVNet.arch_settings.items():
        with torch.device("meta"):
            net = FVNet(name)
        rows.append(
            (
                f"FVNet-{name.upper()}",
                f"`'{name}'`",
                f"{count_parameters(net) / 1e6:.1f}",
                f"{count_macs(net, IMAGE) / 1e9:.2f}",
                *(", ".join(f"{x:g}" for x in values) for values in (arch.channels, arch.depths, arch.expansions)),
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_table(text: str, new: str) -> str:
    """``text`` with what is between its markers replaced.

    Raises:
        ValueError: There is not exactly one pair of markers.
    """
    replaced, count = re.subn(f"{BEGIN}.*?{END}", f"{BEGIN}\n{new}\n{END}", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"has {count} pairs of markers {BEGIN} ... {END} where one is needed")
    return replaced


def main() -> None:
    parser = argparse.ArgumentParser(description="The table of FVNet's variants, counted from the code.")
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--write", nargs="+", type=Path, default=[], metavar="FILE", help="bring these files up to date"
    )
    action.add_argument(
        "--check", nargs="+", type=Path, default=[], metavar="FILE", help="exit with 1 where one is stale"
    )
    arguments = parser.parse_args()
    new = table()
    if not arguments.write and not arguments.check:
        print(new)
    for path in (*arguments.write, *arguments.check):
        old = path.read_text(encoding="utf-8")
        try:
            current = with_table(old, new)
        except ValueError as error:
            sys.exit(f"error: {path} {error}.")
        if current == old:
            continue
        if arguments.check:
            sys.exit(f"error: the table in {path} is stale; run: python docs/variants.py --write {path}")
        with replacing(path) as temporary:
            temporary.write_text(current, encoding="utf-8")


if __name__ == "__main__":
    main()
