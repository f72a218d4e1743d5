"""The page of the backbones that configs/_base_/backbones describes, counted from the code.

python docs/backbones.py              writes docs/backbones.md
python docs/backbones.py --check      exits with 1 where docs/backbones.md is not what the code says
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import torch
from marked import checks, table, update_file
from mmengine.config import Config
from mmengine.registry import MODELS

import fvnet_mm.backbones  # noqa: F401  registers them
from fvnet_mm.bench.complexity import count_macs, count_parameters
from fvnet_mm.places import CONFIGS, DESCRIPTIONS, ROOT

PAGE = ROOT / "docs" / "backbones.md"
RESOLUTION = 224
FACTS = ("url", "license", "distilled", "epochs", "top1", "source")

INTRODUCTION = f"""# Backbones

<!-- Written by `python docs/backbones.py` from the files in configs/_base_/backbones. -->

Each file in `configs/_base_/backbones` describes one backbone, and `--backbone NAME` puts it into any config. All
return features at the strides of the first table; `out_indices` counts these stages from 0.

`--backbone timm:NAME` does the same with any timm model that takes images of any size and has features at the strides
that the config reads; the weights are those that timm names first. Other models are refused with the reason.

To plug in a backbone that you wrote, use `--backbone PATH.py`: see [own_backbone.md](own_backbone.md).

## Networks

The trunk alone, as it is trained, with all four outputs and no classifier. In training RepViT, FastViT and MobileOne
have parallel branches, which papers count folded into one. A fused multiply-add is one MAC; an image has
{RESOLUTION}x{RESOLUTION} pixels. Ordered by MACs.
"""

WEIGHTS = """## Weights

ImageNet-1k pretraining, and the top-1 accuracy (%) that was published for exactly these weights, on images of the
stated size. A dash marks what no source states.

Where authors publish tables of detection or segmentation, these are the weights behind them, as far as the authors say:
distilled ones for EfficientFormerV2, RepViT and SwiftFormer, plain ones for PoolFormer and PVTv2. EfficientFormer's are
those that mmpretrain converted: L1 with 1000 epochs, where its authors' tables start from 300. The ResNets have
torchvision's first weights, as in mmdet's own configs, although longer recipes reach more. A distilled backbone has
learnt from a teacher that the others did not have: compare like with like.
"""


class Backbone(NamedTuple):
    """A description, and what the code says of it."""

    name: str
    source: str
    parameters: int
    macs: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    weights: dict | None


def read(path: Path) -> Backbone:
    """Reads a description and builds its trunk on the meta device.

    Raises:
        ValueError: The description lacks something, or says what is not so.
    """
    cfg = Config.fromfile(path)
    if "weights" not in cfg:
        raise ValueError(f"{path} lacks weights; None says that there are none")
    weights = cfg.weights
    if weights is not None:
        wrong = set(FACTS) ^ (set(weights) - {"resolution"})
        if wrong:
            raise ValueError(f"{path}: weights must have {', '.join(FACTS)}; {', '.join(sorted(wrong))} is not right")
        facts = [weights[key] for key in ("distilled", "epochs", "top1")]
        if weights.source is None and any(fact is not None for fact in facts):
            raise ValueError(f"{path}: weights state what they have no source for")
    config = {key: value for key, value in cfg.backbone.items() if key != "init_cfg"}
    with torch.device("meta"):
        trunk = MODELS.build(config)
    if tuple(cfg.channels) != trunk.channels:
        raise ValueError(f"{path} says channels={tuple(cfg.channels)}, but the network has {trunk.channels}")
    inside = cfg.backbone.get("model_name", cfg.backbone.get("arch"))
    return Backbone(
        name=path.stem,
        source=f"`{cfg.backbone.type}`" + (f" `{inside}`" if inside else ""),
        parameters=count_parameters(trunk),
        macs=count_macs(trunk, (1, 3, RESOLUTION, RESOLUTION)),
        channels=trunk.channels,
        strides=trunk.strides,
        weights=weights,
    )


def networks(backbones: list[Backbone]) -> str:
    """Table of what the trunks are."""
    header = ("Name", "Class", "Parameters (M)", "MACs (G)", "Channels", "Strides")
    rows = [
        (
            f"`{backbone.name}`",
            backbone.source,
            f"{backbone.parameters / 1e6:.2f}",
            f"{backbone.macs / 1e9:.2f}",
            ", ".join(map(str, backbone.channels)),
            ", ".join(map(str, backbone.strides)),
        )
        for backbone in backbones
    ]
    return table(header, "llrrll", rows)


def pretraining(backbones: list[Backbone]) -> str:
    """Table of their weights."""
    header = ("Name", "Top-1", "at", "Pretraining", "Epochs", "Licence", "Weights", "Source")
    rows = []
    for backbone in backbones:
        weights = backbone.weights
        if weights is None:
            rows.append((f"`{backbone.name}`", *["–"] * 5, "none published", "–"))
            continue
        rows.append(
            (
                f"`{backbone.name}`",
                dash(weights.top1),
                dash(weights.get("resolution", RESOLUTION) if weights.top1 is not None else None),
                {True: "distilled", False: "plain", None: "–"}[weights.distilled],
                dash(weights.epochs),
                dash(weights.license),
                f"[{file_name(weights.url)}]({weights.url})",
                dash(weights.source),
            )
        )
    return table(header, "lrrlrlll", rows)


def file_name(url: str) -> str:
    """The part of a URL that tells weights apart."""
    parts = url.split("/")
    return parts[-4] if parts[-1] == "model.safetensors" else parts[-1]


def dash(fact: object) -> str:
    """A fact, or a dash for one that no source states."""
    return "–" if fact is None else str(fact)


def page(descriptions: Path = CONFIGS / DESCRIPTIONS) -> str:
    """The whole page, in Markdown."""
    backbones = sorted(map(read, descriptions.glob("*.py")), key=lambda backbone: (backbone.macs, backbone.name))
    return "\n".join((INTRODUCTION, networks(backbones), "", WEIGHTS, pretraining(backbones), ""))


def main() -> None:
    check = checks(__doc__)
    try:
        new = page()
    except ValueError as error:
        sys.exit(f"error: {error}.")
    update_file(PAGE, new, "python docs/backbones.py", check=check)


if __name__ == "__main__":
    main()
