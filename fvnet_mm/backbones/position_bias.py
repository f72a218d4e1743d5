"""Attention biases of any size from a table of a fixed one.

EfficientFormer and EfficientFormerV2 add to every attention score a learnt bias that depends on the head and on
how far apart query and key are: ``table[head, |dy|, |dx|]``, one entry for each absolute offset on the feature
map of a 224-pixel image. An image of another size has other offsets, so the table is resized to them.

What is resized is the table, not the (queries, keys) matrix made of it: only the table is a picture of something
smooth, and only from a resized table do pairs with the same offset get the same bias. It is a function of the
signed offset that happens to be even, hence three choices:

- offset 0 stays offset 0, and the largest offset becomes the largest (``align_corners=True``): a token's bias to
  itself is the table's sharpest entry and must not be mixed with its neighbours';
- in between, an offset means the same share of the feature map as in pretraining;
- behind offset 0 the interpolation continues in the mirror image, which is what the function does there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import ceil, isqrt, prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.models import efficientformer, efficientformer_v2
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from .interpolation import resized_table

Size = tuple[int, int]


def signed_bias_table(table: Tensor, size: Size) -> Tensor:
    """Biases for all signed offsets of a feature map, from a table of another map's absolute offsets.

    Args:
        table: (heads, h, w); entry [y, x] is for offsets of ±y rows and ±x columns on a map of h x w.
        size: Height H and width W of the feature map.

    Returns:
        (heads, 2H - 1, 2W - 1) in the table's dtype; offset 0 is in the middle. Exact copies of the table's
        entries for ``size == (h, w)``.
    """
    if table.shape[1:] == size:
        return _mirrored(_mirrored(table, 1), 2)
    return resized_table(table, size, _bicubic_weights)


def pairwise_bias(signed_table: Tensor, query_stride: int = 1) -> Tensor:
    """Bias of every pair of a query and a key on a feature map of H x W.

    Args:
        signed_table: (heads, 2H - 1, 2W - 1), from :func:`signed_bias_table`.
        query_stride: Every which row and column, from the first, has a query. Keys are everywhere.

    Returns:
        (heads, queries, keys), both in row-major order: ceil(H / query_stride) * ceil(W / query_stride) and H * W.
    """
    height, width = ((length + 1) // 2 for length in signed_table.shape[1:])
    # The window of H x W offsets that starts at H - 1 - y and W - 1 - x is what the query at (y, x) sees. Windows
    # are views: neither the forward nor the backward pass gathers by index.
    first = signed_table[:, (height - 1) % query_stride :, (width - 1) % query_stride :]
    windows = first.unfold(1, height, query_stride).unfold(2, width, query_stride)
    return windows.flip(1, 2).flatten(3).flatten(1, 2)


def _mirrored(x: Tensor, dim: int) -> Tensor:
    """Entries 0 to n - 1 along ``dim`` as entries -(n - 1) to n - 1 of an even function."""
    return torch.cat([x.narrow(dim, 1, x.shape[dim] - 1).flip(dim), x], dim)


def _bicubic_weights(old: int, new: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What each of ``old`` entries contributes to each of the 2 * new - 1 signed offsets, (2 * new - 1, old)."""
    # The corners of a single entry are no two points to align: make two and drop one.
    several = max(new, 2)
    entries = _mirrored(torch.eye(old, dtype=dtype, device=device), 0)
    weights = F.interpolate(entries[None, None], (2 * several - 1, old), mode="bicubic", align_corners=True)[0, 0]
    return weights[several - new : several + new - 1]


class _CachedBias(NamedTuple):
    table: Tensor
    version: int
    bias: Tensor


class _BiasCache(OrderedDict[Size, _CachedBias]):
    """Copies and pickles of it are empty: versions of their tables begin anew."""

    def __reduce__(self) -> tuple[type[_BiasCache], tuple[()]]:
        return _BiasCache, ()


class AnySizeBias(nn.Module):
    """Mixin, before the library's attention, that makes biases for any size and remembers them in eval mode.

    Biases of the :attr:`cached_sizes` sizes seen last are kept, as plain attributes outside the state dict, until
    the mode is set, the module is moved or cast, or its table changes (what is written through ``.data``, which
    leaves no trace, shows after the mode is set again). More would fill a GPU while evaluating on
    images of many shapes: a bias of 1050 tokens and 8 heads takes 35 MB. While a gradient is wanted, while
    training, and while a graph is recorded, nothing is remembered.
    """

    cached_sizes = 2  # landscape and portrait

    attention_biases: nn.Parameter
    """The table, (heads, h * w) in row-major order of absolute offsets."""

    table_size: Size
    """Size h x w of the feature map that the table is for."""

    def set_table_size(self, table_size: Size) -> None:
        """Must be called before the first pass."""
        self.table_size = table_size
        self._cache = _BiasCache()

    def bias(self, size: Size, query_stride: int = 1) -> Tensor:
        """Bias of every pair of a query and a key, (heads, queries, keys), as in :func:`pairwise_bias`."""
        table = self.attention_biases
        if (
            self.training
            or (torch.is_grad_enabled() and table.requires_grad)
            or torch.compiler.is_compiling()
            or torch.jit.is_tracing()
            or table.is_inference()  # has no version
        ):
            return self._make_bias(table, size, query_stride)
        cached = self._cache.get(size)
        if cached is None or cached.table is not table or cached.version != table._version:
            cached = _CachedBias(table, table._version, self._make_bias(table, size, query_stride))
        self._cache[size] = cached
        self._cache.move_to_end(size)
        if len(self._cache) > self.cached_sizes:
            self._cache.popitem(last=False)
        return cached.bias

    def _make_bias(self, table: Tensor, size: Size, query_stride: int) -> Tensor:
        return pairwise_bias(signed_bias_table(table.unflatten(1, self.table_size), size), query_stride)

    def train(self, mode: bool = True) -> AnySizeBias:
        """Sets the mode and forgets the biases."""
        self._cache.clear()
        # Not the library's: it fills a cache of its own, of the fixed size, and returns None.
        return nn.Module.train(self, mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> AnySizeBias:
        self._cache.clear()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args) -> None:
        self._cache.clear()
        super()._load_from_state_dict(*args)


def square_table_size(table: Tensor) -> Size:
    """Size of the square feature map that a (heads, h * h) table is for."""
    return (isqrt(table.shape[1]),) * 2


def make_any_size(model: nn.Module) -> None:
    """Gives timm's EfficientFormer and EfficientFormerV2 any input size, in place.

    Modules change their class, and nothing else: parameters, buffers, their names, hooks and modes stay, so
    checkpoints load as before, and outputs for the size that the model was built for do not change. Works on
    classifiers and on what ``features_only=True`` returns. Other models, and those that are done, are left alone.

    Of the index buffers ``attention_bias_idxs``, which lose their use, those of EfficientFormer are part of the
    state dict and those of EfficientFormerV2 are not.

    Args:
        model: A built timm model.
    """
    for module in model.modules():
        replacement = _REPLACEMENTS.get(type(module))
        if replacement is not None:
            module.__class__ = replacement
            if isinstance(module, AnySizeBias):
                resolution = getattr(module, "resolution", None) or square_table_size(module.attention_biases)
                module.set_table_size(tuple(resolution))


class _ChannelsLast(efficientformer.Flat):
    """(N, C, H, W) -> (N, H, W, C): what follows acts on the last dimension, and the attention sees the size."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class _TokenAttention(AnySizeBias, efficientformer.Attention):
    """(N, H, W, C) -> (N, H, W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        self.resolution = (int(x.shape[1]), int(x.shape[2]))
        return super().forward(x.flatten(1, 2)).unflatten(1, self.resolution)

    def get_attention_biases(self, device: torch.device) -> Tensor:
        return self.bias(self.resolution)


class _EfficientFormer(efficientformer.EfficientFormer):
    """timm's model around a last stage that works on (N, H, W, C)."""

    def _ends_in_tokens(self) -> bool:
        return len(self.stages) == self.num_stages  # else the last stage was pruned

    def forward_features(self, x: Tensor) -> Tensor:
        x = super().forward_features(x)
        return x.flatten(1, 2) if self._ends_in_tokens() else x

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
        take, last = feature_take_indices(len(self.stages), indices)
        x = self.stem(x)
        outputs = []
        for stage in self.stages[: last + 1] if stop_early else self.stages:
            x = stage(x)
            outputs.append(x)
        if len(outputs) == self.num_stages:
            normed = self.norm(x)
            outputs[-1] = (normed if norm else x).permute(0, 3, 1, 2)
            x = normed.flatten(1, 2)
        intermediates = [outputs[i] for i in take]
        return intermediates if intermediates_only else (x, intermediates)


class _CroppedUpsample(nn.Upsample):
    """Upsampling by a factor, of which the rows and columns beyond an odd size are cut off.

    Upsampling to the size itself would shift every position a little against where it is in pretraining.
    """

    size_after: Size

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.size_after
        return super().forward(x)[..., :height, :width]


class _MapAttention(AnySizeBias, efficientformer_v2.Attention2d):
    """(N, C, H, W) -> (N, C, H, W), on every second row and column where timm's has a stride."""

    def set_table_size(self, table_size: Size) -> None:
        super().set_table_size(table_size)
        if self.upsample is not None:
            self.upsample.__class__ = _CroppedUpsample

    def forward(self, x: Tensor) -> Tensor:
        size = (int(x.shape[2]), int(x.shape[3]))
        if self.upsample is not None:
            self.upsample.size_after = size
            size = tuple(ceil(n / stride) for n, stride in zip(size, self.stride_conv.conv.stride, strict=True))
        self.resolution = size
        self.N = prod(size)
        return super().forward(x)

    def get_attention_biases(self, device: torch.device) -> Tensor:
        return self.bias(self.resolution)

    def _init_buffers(self) -> None:
        """Leaves the index buffer, which nothing reads, as it is."""


class _DownsampleAttention(AnySizeBias, efficientformer_v2.Attention2dDownsample):
    """(N, C, H, W) -> (N, C', ceil(H / 2), ceil(W / 2)): queries on every second row and column, keys on all."""

    query_stride = 2

    def forward(self, x: Tensor) -> Tensor:
        self.resolution = (int(x.shape[2]), int(x.shape[3]))
        self.resolution2 = tuple(ceil(n / self.query_stride) for n in self.resolution)
        self.N, self.N2 = prod(self.resolution), prod(self.resolution2)
        return super().forward(x)

    def get_attention_biases(self, device: torch.device) -> Tensor:
        return self.bias(self.resolution, self.query_stride)

    def _init_buffers(self) -> None:
        """Leaves the index buffer, which nothing reads, as it is."""


_REPLACEMENTS: dict[type[nn.Module], type[nn.Module]] = {
    efficientformer.Flat: _ChannelsLast,
    efficientformer.Attention: _TokenAttention,
    efficientformer.EfficientFormer: _EfficientFormer,
    efficientformer_v2.Attention2d: _MapAttention,
    efficientformer_v2.Attention2dDownsample: _DownsampleAttention,
}
