"""What tells one FVNet from another, and the checks of what a user gives it or another trunk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from torch import Tensor

STRIDES = (4, 8, 16, 32)
"""Stride of each stage's output, in pixels of the image."""

MIN_SIZE = STRIDES[-1]
"""Smallest height and width of an image, in pixels."""


@dataclass(frozen=True)
class FVNetArch:
    """What tells one FVNet from another; every tuple has one entry a stage.

    Attributes:
        channels: Channels of the stages.
        depths: Number of blocks.
        expansions: Hidden channels of the feed-forwards per channel.
        phases: Reaches of the phases of a block, fast to slow, each a :class:`~.mpfb.Phase` or such a pair.
        deep_stem: Whether the stem has a third convolution, between its two of stride 2.
        dense_downsample: Whether maps are halved by one dense 3x3 convolution, or by a depthwise and a pointwise one.
        conv_ffn: Whether the feed-forwards have a depthwise 3x3 convolution among their hidden channels.
    """

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    expansions: tuple[float, ...] = (2.0, 2.0, 3.0, 3.0)
    phases: tuple[tuple[tuple[int, int], ...], ...] = (((3, 1), (3, 2)),) * 4
    deep_stem: bool = True
    dense_downsample: bool = True
    conv_ffn: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, bool):
                check_flags(**{f"arch['{field.name}']": value})
            elif not isinstance(value, tuple) or len(value) != len(STRIDES):
                raise ValueError(
                    f"arch['{field.name}'] must have one entry for each of the {len(STRIDES)} stages, but is {value}."
                )
        shapes = zip(self.channels, self.depths, strict=True)
        if not all(is_whole(channels, 2) and is_whole(depth, 1) for channels, depth in shapes):
            raise ValueError(
                "arch must have whole numbers of channels, at least 2, and of blocks, at least 1, in every stage, but "
                f"has channels {self.channels} and depths {self.depths}."
            )
        for expansion, channels in zip(self.expansions, self.channels, strict=True):
            if not is_number(expansion) or not 0 < expansion < math.inf or round(channels * expansion) < 1:
                raise ValueError(
                    "arch['expansions'] must be positive numbers that leave a hidden channel at least, but are "
                    f"{self.expansions}."
                )
        for stage, channels in zip(self.phases, self.channels, strict=True):
            if not isinstance(stage, tuple) or not 0 < len(stage) <= channels:
                raise ValueError(
                    f"arch['phases'] must have 1 to {channels} phases in a stage of {channels} channels, "
                    f"but one stage has {stage}."
                )
            for phase in stage:
                pair = isinstance(phase, tuple) and len(phase) == 2 and all(is_whole(number, 1) for number in phase)
                if not pair or phase[0] % 2 == 0 or phase[1] & (phase[1] - 1):
                    raise ValueError(
                        "arch['phases'] holds (kernel_size, grid) pairs of an odd number and a power of two, but one"
                        f" is {phase}."
                    )

    def replaced(self, **others: object) -> FVNetArch:
        """This with other values in the fields that are named and not None; lists, as configs hold them, may be nested.

        Raises:
            ValueError: A value is outside what its field allows.
        """
        return replace(self, **{name: as_tuple(value) for name, value in others.items() if value is not None})


def checked_out_indices(out_indices: Sequence[int]) -> tuple[int, ...]:
    """``out_indices`` as a tuple, or a ValueError that says what is allowed."""
    indices = tuple(out_indices) if isinstance(out_indices, Sequence) else (out_indices,)
    valid = isinstance(out_indices, Sequence) and all(is_whole(i, 0) and i < len(STRIDES) for i in indices)
    if not indices or not valid or list(indices) != sorted(set(indices)):
        raise ValueError(
            f"out_indices must be stage numbers from 0 to {len(STRIDES) - 1} in ascending order, each once, "
            f"but is {out_indices}."
        )
    return indices


def checked_frozen_stages(frozen_stages: int, num_stages: int, out_indices: tuple[int, ...]) -> int:
    """``frozen_stages`` of a trunk that builds so many stages, or a ValueError that says what is allowed."""
    if not is_whole(frozen_stages, -1) or frozen_stages > num_stages:
        raise ValueError(
            f"frozen_stages must be from -1 (nothing) to {num_stages} (the stem and all {num_stages} stages that "
            f"out_indices={out_indices} needs), but is {frozen_stages}."
        )
    return frozen_stages


def check_flags(**flags: bool) -> None:
    """Raises a ValueError where one of these arguments is neither True nor False."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ValueError(f"{name} must be True or False, but is {flag!r}.")


def check_image_size(x: Tensor, trunk: str) -> None:
    """Raises a ValueError where images, (N, C, H, W), are too small for the trunk of this name."""
    height, width = x.shape[-2:]
    if min(height, width) < MIN_SIZE:
        raise ValueError(
            f"{trunk} needs images of at least {MIN_SIZE}x{MIN_SIZE} pixels, but got {height}x{width}; "
            "resize or pad them."
        )


def is_whole(value: object, least: int) -> bool:
    """Whether a value is a whole number, and at least so much."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> bool:
    """Whether a value is a number, and not True or False."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_tuple(value: object) -> object:
    """Nested lists, as configs hold them, as nested tuples."""
    return tuple(as_tuple(v) for v in value) if isinstance(value, (list, tuple)) else value
