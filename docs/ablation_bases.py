"""The networks whose parts the ablation's tables change, and what FVNet's sizes were before."""

from __future__ import annotations

from dataclasses import dataclass, field

from fvnet_mm.backbones.arch import STRIDES

FTFU = {"type": "FTFU"}


@dataclass(frozen=True)
class Base:
    """A network whose parts are changed one at a time.

    Attributes:
        title: What it is called.
        arguments: Of FVNet.
        shapes: Its shapes otherwise, by name.
        holds: What its phases hold, in words.
        question: What its shapes differ in.
    """

    title: str
    arguments: dict[str, object]
    shapes: dict[str, dict[str, object]] = field(default_factory=dict)
    holds: str = "FTFU in all phases"
    question: str = "Depths, widths and expansions"

    @property
    def former(self) -> bool:
        """Whether no size is built so now."""
        return set(self.arguments) != {"arch"}


FORMER_PARTS = {"unit": FTFU, "deep_stem": False, "dense_downsample": False, "conv_ffn": False}
FIRST_T = {"channels": (32, 64, 160, 320), "depths": (2, 2, 9, 3), **FORMER_PARTS}
SECOND_T = {"channels": (48, 96, 160, 320), "depths": (1, 2, 7, 3), **FORMER_PARTS}
THIRD_T = {"channels": (64, 128, 160, 256), "depths": (2, 3, 4, 2), **FORMER_PARTS}
FOURTH_T = {"channels": (64, 112, 176, 320), "depths": (1, 2, 6, 2), **FORMER_PARTS}
FIRST_S = {"channels": (64, 128, 224, 448), "depths": (1, 2, 9, 3), **FORMER_PARTS}
SECOND_S = {"channels": (64, 128, 192, 384), "depths": (1, 2, 8, 3), **FORMER_PARTS}
FOURTH_S = {"channels": (80, 160, 192, 384), "depths": (1, 3, 6, 2), **FORMER_PARTS}
FIRST_M = {"channels": (48, 96, 272, 544), "depths": (1, 2, 8, 3), **FORMER_PARTS}
FOURTH_M = {"channels": (80, 160, 240, 448), "depths": (2, 3, 6, 2), **FORMER_PARTS}

FORMER = {
    "t": {
        "as first built": FIRST_T,
        "as built second": SECOND_T,
        "as built third": THIRD_T,
        "as built fourth": FOURTH_T,
    },
    "s": {"as first built": FIRST_S, "as built second": SECOND_S, "as built fourth": FOURTH_S},
    "m": {"as first built": FIRST_M, "as built fourth": FOURTH_M},
}
"""What sizes were built as before; records of then name the size alone."""

WIDER_KERNELS = {kernel: (((kernel, 1), (kernel, 2)),) * len(STRIDES) for kernel in (5, 7)}
NEW_PARTS = {"deep_stem": True, "dense_downsample": True, "conv_ffn": True}
SLOW_FTFU = ["SiLUUnit", "FTFU"]
HELD_NOW = "x + SiLU(v), and FTFU in the slow phase"

BASES = (
    Base(
        "FVNet-T",
        {"arch": "t"},
        {
            "more blocks at stride 16": {"depths": (1, 2, 7, 2)},
            "wider at strides 4 and 8": {"channels": (64, 112, 160, 320), "depths": (1, 2, 5, 2)},
            "narrower and deeper": {"channels": (48, 96, 144, 256), "depths": (2, 4, 6, 2)},
            "expansion 2, deeper": {"expansions": (2.0,) * 4, "depths": (1, 3, 8, 2)},
            "expansion 3": {"expansions": (3.0,) * 4, "depths": (1, 2, 5, 2)},
            "as lean as MobileNetV2": {"channels": (32, 64, 112, 208), "depths": (1, 2, 6, 2)},
            **FORMER["t"],
        },
        holds=HELD_NOW,
    ),
    Base(
        "FVNet-T as built fourth, with x + SiLU(v)",
        {"arch": "t", **FOURTH_T, "unit": {"type": "SiLUUnit"}},
        {
            "a deep stem": {"deep_stem": True},
            "dense downsampling": {"dense_downsample": True},
            "a convolution in the feed-forward": {"conv_ffn": True},
            "a deep stem and dense downsampling": {"deep_stem": True, "dense_downsample": True},
            "all three, kernels of 7": {**NEW_PARTS, "phases": WIDER_KERNELS[7]},
            "all three, kernels of 7, FTFU in the slow phase": {
                **NEW_PARTS,
                "phases": WIDER_KERNELS[7],
                "unit": SLOW_FTFU,
            },
            "FTFU in the slow phase": {"unit": SLOW_FTFU},
            "kernels of 5": {"phases": WIDER_KERNELS[5]},
            "kernels of 7": {"phases": WIDER_KERNELS[7]},
            "kernels of 7 and dense downsampling": {"phases": WIDER_KERNELS[7], "dense_downsample": True},
            "kernels of 7, a deep stem and dense downsampling": {
                "phases": WIDER_KERNELS[7],
                "deep_stem": True,
                "dense_downsample": True,
            },
            "kernels of 7, dense downsampling, a convolution in the feed-forward": {
                "phases": WIDER_KERNELS[7],
                "dense_downsample": True,
                "conv_ffn": True,
            },
            "three phases, on grids of 1, 2 and 4": {"phases": (((3, 1), (3, 2), (3, 4)),) * len(STRIDES)},
            "expansion 4, shallower": {"expansions": (4.0,) * 4, "depths": (1, 1, 4, 2)},
        },
        holds="x + SiLU(v) in all phases",
        question="Parts, as they are now or nearly so",
    ),
    Base(
        "FVNet-T as built fourth",
        {"arch": "t", **FOURTH_T},
        {
            "as first built: half as wide at stride 4, deeper behind": FIRST_T,
            "as built second: three quarters as wide at stride 4": SECOND_T,
            "as built third: deeper at strides 4 and 8, narrower and shallower behind": THIRD_T,
            "as third, a block more at stride 16": {"channels": (64, 128, 160, 256), "depths": (2, 3, 5, 2)},
            "as third, a block more at stride 16, wider from there on": {
                "channels": (64, 128, 176, 320),
                "depths": (2, 3, 5, 2),
            },
            "less wide, deeper at strides 4 and 8": {"channels": (48, 96, 192, 320), "depths": (2, 3, 6, 2)},
        },
    ),
    Base(
        "FVNet-T as first built",
        {"arch": "t", **FIRST_T},
        {
            "half as wide again at strides 4 and 8": SECOND_T,
            "much wider and shallower": {"channels": (48, 96, 192, 384), "depths": (1, 1, 5, 2)},
        },
    ),
    Base(
        "FVNet-T as built second",
        {"arch": "t", **SECOND_T},
        {
            "deeper and a third wider at strides 4 and 8, shallower behind": {
                "channels": (64, 128, 160, 256),
                "depths": (2, 3, 5, 2),
            },
        },
    ),
    Base("FVNet-T as built third", {"arch": "t", **THIRD_T}),
    Base("FVNet-N", {"arch": "n"}, holds=HELD_NOW),
    Base("FVNet-S", {"arch": "s"}, {"as built fourth": FOURTH_S}, holds=HELD_NOW),
    Base(
        "FVNet-S as built fourth",
        {"arch": "s", **FOURTH_S},
        {
            "as first built": FIRST_S,
            "as built second": SECOND_S,
            "less wide and deeper at strides 4 and 8": {"channels": (64, 144, 192, 384), "depths": (2, 3, 6, 2)},
        },
    ),
    Base("FVNet-S as first built", {"arch": "s", **FIRST_S}, {"narrower at strides 16 and 32": SECOND_S}),
    Base(
        "FVNet-S as built second",
        {"arch": "s", **SECOND_S},
        {"wider at strides 4 and 8": {"channels": (80, 160, 192, 384), "depths": (1, 2, 7, 3)}},
    ),
    Base("FVNet-M", {"arch": "m"}, {"as built fourth": FOURTH_M}, holds=HELD_NOW),
    Base("FVNet-M as built fourth", {"arch": "m", **FOURTH_M}, {"as first built": FIRST_M}),
    Base(
        "FVNet-M as first built",
        {"arch": "m", **FIRST_M},
        {
            "wider at strides 4 and 8": {"channels": (64, 128, 272, 544), "depths": (1, 2, 7, 3)},
            "wider at strides 4 and 8, narrower behind": {"channels": (64, 128, 256, 512), "depths": (1, 2, 8, 3)},
        },
    ),
)
