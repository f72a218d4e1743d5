"""Learnt positions of any size from a table of a fixed one.

A Visformer adds to the features in front of each stage a learnt table, one entry for each channel and position on
the feature map of a 224-pixel image. For an image of another size the table is resized to its feature map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models import visformer
from timm.models._features import feature_take_indices
from timm.models._manipulate import checkpoint_seq
from torch import Tensor, nn

from .interpolation import resized_table


def resized_positions(table: Tensor, size: tuple[int, int]) -> Tensor:
    """A table of positions for a feature map of another size; the table itself where it is the same.

    Args:
        table: (1, channels, h, w).
        size: Height and width of the feature map.
    """
    if table.shape[2:] == size:
        return table
    return resized_table(table[0], size, _bicubic_weights)[None]


def _bicubic_weights(old: int, new: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What each of ``old`` entries contributes to each of ``new``, (new, old)."""
    entries = torch.eye(old, dtype=dtype, device=device)
    return F.interpolate(entries[None, None], (new, old), mode="bicubic")[0, 0]


def make_positions_any_size(model: nn.Module) -> None:
    """Gives timm's Visformer any input size, in place; other models are left alone.

    Parameters and their names stay, so checkpoints load as before, and features of images of the size that the model
    was built for do not change. Of other sizes, the last rows and columns that fill no patch are left out.
    """
    if type(model) is not visformer.Visformer:
        return
    model.__class__ = _Visformer
    for module in model.modules():
        if isinstance(module, visformer.PatchEmbed):
            module.img_size = None  # what it compares images with


class _Visformer(visformer.Visformer):
    """timm's model with tables resized to what they are added to."""

    def forward_features(self, x: Tensor) -> Tensor:
        return self.forward_intermediates(x)[0]

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', but is '{output_fmt}'.")
        stages = [
            (self.patch_embed1, self.pos_embed1, self.stage1),
            (self.patch_embed2, self.pos_embed2, self.stage2),
            (self.patch_embed3, self.pos_embed3, self.stage3),
        ]
        take, last = feature_take_indices(len(stages), indices)
        x = x if self.stem is None else self.stem(x)
        outputs = []
        for patch_embed, positions, stage in stages[: last + 1] if stop_early else stages:
            x = x if patch_embed is None else patch_embed(x)
            if positions is not None:
                x = self.pos_drop(x + resized_positions(positions, tuple(x.shape[2:])))
            x = checkpoint_seq(stage, x) if self.grad_checkpointing else stage(x)
            outputs.append(x)
        final = self.norm(x) if len(outputs) == len(stages) else x
        if norm and len(outputs) == len(stages):
            outputs[-1] = final
        intermediates = [outputs[i] for i in take]
        return intermediates if intermediates_only else (final, intermediates)
