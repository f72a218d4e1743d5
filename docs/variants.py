"""The table of FVNet's variants, counted from the code.

python docs/variants.py             puts it into README.md and docs/architecture.md
python docs/variants.py --check     exits with 1 where it is not there
"""

from __future__ import annotations

from pathlib import Path

import torch
from marked import table, update_parts

from fvnet_mm.backbones import FVNet
from fvnet_mm.bench.complexity import count_macs, count_parameters

PAGES = (Path(__file__).with_name("architecture.md"), Path(__file__).parents[1] / "README.md")
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


def variants() -> str:
    """Markdown table of all variants: the trunk alone, no classifier; a fused multiply-add is one MAC."""
    rows = []
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
    return table(HEADER, "llrrrrr", rows)


def parts() -> dict[tuple[Path, str], str]:
    """The table between the markers of both pages."""
    return dict.fromkeys(((page, "variants") for page in PAGES), variants())


def main() -> None:
    update_parts(__doc__, "python docs/variants.py", parts)


if __name__ == "__main__":
    main()
