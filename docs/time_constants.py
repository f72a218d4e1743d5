"""Pictures of effective time constants: where in an image each stage of a trained FVNet flows fast, and where slowly.

python docs/time_constants.py CHECKPOINT IMAGE ... --out PICTURE.png [--arch s] [--long-side 192]

The checkpoint is a trunk, or anything that holds one under 'backbone.': a detector, a segmentor, a classifier.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from fvnet_mm.backbones import FTFU, FVNet
from fvnet_mm.backbones.arch import STRIDES
from fvnet_mm.engine.checkpoint import read_checkpoint
from fvnet_mm.engine.state_dicts import under_prefix, weights_in
from fvnet_mm.errors import UserError
from fvnet_mm.files import replacing, written_or_said
from fvnet_mm.report.sheet import open_picture

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of the suite's image normalisation, in values of RGB from 0 to 255."""


def load_trunk(checkpoint: Path, arch: str = "s", **others: object) -> FVNet:
    """An FVNet of these arguments in eval mode with the weights of a checkpoint, its output norms left out.

    Raises:
        UserError: The file cannot be read, or its weights are not those of this trunk.
    """
    trunk = FVNet(arch, **others).eval()
    tensors = weights_in(read_checkpoint(checkpoint), str(checkpoint)).tensors
    tensors = under_prefix(tensors, "backbone.") or tensors
    known = {name: tensor for name, tensor in trunk.state_dict().items() if not name.startswith("norm")}
    wrong = [name for name in known if name not in tensors or tensors[name].shape != known[name].shape]
    if wrong:
        raise UserError(f"{checkpoint} does not hold an FVNet '{arch}': {wrong[0]} is missing or of another shape.")
    trunk.load_state_dict({name: tensors[name] for name in known}, strict=False)
    return trunk


@torch.no_grad()
def time_constants(trunk: FVNet, image: Tensor) -> list[Tensor]:
    """Effective time constants in the last block of each stage, in units of the step.

    Args:
        trunk: FVNet in eval mode, with FTFUs in its phases.
        image: Normalised, (1, 3, H, W).

    Returns:
        Geometric mean over the channels of all phases, coarse phases upsampled: (ceil(H / s), ceil(W / s)) per stage.

    Raises:
        UserError: A stage has no FTFU.
    """
    units = {unit: i for i, stage in enumerate(trunk.stages) for unit in stage.blocks[-1].modules()}
    units = {unit: i for unit, i in units.items() if isinstance(unit, FTFU)}
    if set(units.values()) != set(range(len(trunk.stages))):
        raise UserError("this FVNet has a stage without FTFUs and so without time constants; take another.")
    seen: dict[int, list[Tensor]] = {}

    def look(unit: FTFU, inputs: tuple[Tensor]) -> None:
        seen.setdefault(units[unit], []).append(unit.effective_time_constant(inputs[0]).log())

    hooks = [unit.register_forward_pre_hook(look) for unit in units]
    try:
        outputs = trunk.stage_outputs(image)
    finally:
        for hook in hooks:
            hook.remove()
    sizes = [output.shape[-2:] for output in outputs]
    maps = [torch.cat([F.interpolate(log, sizes[i]) for log in seen[i]], dim=1) for i in sorted(seen)]
    return [logs.mean(dim=(0, 1)).exp() for logs in maps]


def draw(trunk: FVNet, pictures: list[Image.Image], out: Path) -> None:
    """A row per picture: it, and a map per stage, all on one logarithmic scale."""
    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.colors import LogNorm

    rows = []
    for picture in pictures:
        pixels = (np.asarray(picture, dtype=np.float32) - MEAN) / STD
        rows.append(time_constants(trunk, torch.from_numpy(pixels).permute(2, 0, 1)[None].float()))
    values = torch.cat([stage.flatten() for row in rows for stage in row])
    norm = LogNorm(values.min().item(), values.max().item())
    columns = 1 + len(rows[0])
    height = 0.3 + 2.6 * max(picture.height / picture.width for picture in pictures)
    figure, axes = pyplot.subplots(
        len(rows), columns, figsize=(2.6 * columns, height * len(rows)), squeeze=False, layout="constrained"
    )
    for row, (picture, stages) in enumerate(zip(pictures, rows, strict=True)):
        axes[row, 0].imshow(picture)
        for axis, stride, stage in zip(axes[row, 1:], STRIDES, stages, strict=True):
            drawn = axis.imshow(stage, norm=norm, cmap="viridis")
            axis.set_title(f"stride {stride}", fontsize=9)
    for axis in axes.flat:
        axis.set_axis_off()
    ticks = np.geomspace(norm.vmin, norm.vmax, 5)
    bar = figure.colorbar(drawn, ax=axes, label="effective time constant (steps)", ticks=ticks, format="%.2f")
    bar.ax.minorticks_off()
    with written_or_said(str(out)), replacing(out) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of effective time constants of a trained FVNet.")
    parser.add_argument("checkpoint", type=Path, help="a trunk, or a model that holds one under 'backbone.'")
    parser.add_argument("images", nargs="+", type=Path, help="of at least 32x32 pixels")
    parser.add_argument("--arch", default="s", choices=list(FVNet.arch_settings), help="the variant (default: s)")
    parser.add_argument("--long-side", type=int, metavar="PIXELS", help="scale the images to it, as in training")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    arguments = parser.parse_args()
    try:
        trunk = load_trunk(arguments.checkpoint, arguments.arch)
        pictures = [open_picture(image) for image in arguments.images]
        if arguments.long_side is not None:
            pictures = [ImageOps.contain(picture, (arguments.long_side,) * 2) for picture in pictures]
        draw(trunk, pictures, arguments.out)
    except (UserError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
