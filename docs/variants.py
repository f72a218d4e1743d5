"""The table of FVNet's variants, counted from the code.

    python docs/variants.py                                    prints it
    python docs/variants.py --write README.md ...              puts it between the markers of these files
    python docs/variants.py --check README.md ...              exits with 1 where it is not what the code says

A file marks the table's place with the lines ``<!-- variants:begin -->`` and ``<!-- variants:end -->``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from marked import update

from fvnet_mm.backbones import FVNet
from fvnet_mm.bench.complexity import count_macs, count_parameters

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
        command = f"python docs/variants.py --write {path}"
        update(path, "variants", new, command, check=path in arguments.check)


if __name__ == "__main__":
    main()
