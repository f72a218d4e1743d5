"""The rows of the ablation's tables: what each changes in FVNet, and what it costs, counted from the code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import NamedTuple

import torch

from fvnet_mm.backbones import FVNet, FVNetArch
from fvnet_mm.backbones.arch import STRIDES
from fvnet_mm.backbones.mpfb import units_of
from fvnet_mm.bench.complexity import count_macs, count_parameters
from fvnet_mm.errors import UserError
from fvnet_mm.records import RunRecord

IMAGE = (1, 3, 224, 224)
FTFU = {"type": "FTFU"}
ARCH = tuple(field.name for field in fields(FVNetArch))


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
            "as first built": FIRST_T,
            "as built second": SECOND_T,
            "as built third": THIRD_T,
            "as built fourth": FOURTH_T,
        },
        holds="x + SiLU(v), and FTFU in the slow phase",
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
    Base("FVNet-S", {"arch": "s"}, {"as built fourth": FOURTH_S}, holds="x + SiLU(v), and FTFU in the slow phase"),
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
    Base("FVNet-M", {"arch": "m"}, {"as built fourth": FOURTH_M}, holds="x + SiLU(v), and FTFU in the slow phase"),
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


class Variant(NamedTuple):
    """A row: what is changed in words, and the arguments of FVNet that do it."""

    question: str
    name: str
    arguments: dict[str, object]


def variants(base: Base) -> Iterator[Variant]:
    """All rows of a base in their order, each once, the first of which is the base as it is."""
    seen: set[str] = set()
    for row in _variants(base):
        if (settings := settings_of(row.arguments)) not in seen:
            seen.add(settings)
            yield row


def _variants(base: Base) -> Iterator[Variant]:
    def row(name: str, **changed: object) -> Variant:
        return Variant(question, name, {**base.arguments, **changed})

    def unit(name: str, kind: str, **options: object) -> Variant:
        return row(name, unit={"type": kind, **options})

    def ftfu(name: str, kind: str = "FTFU", **options: object) -> Variant:
        """Another FTFU where the base has one."""
        changed = {"type": kind, **options} if options else kind
        return row(name, unit=changed if "unit" in base.arguments else ["SiLUUnit", changed])

    question = "What the phases hold"
    yield row(base.holds)
    yield unit("FTFU in all phases", "FTFU")
    yield unit("two plain depthwise convolutions", "DepthwiseUnit")
    yield unit("gate of a GRU", "GatedUnit")
    yield unit("sigmoid approximation (CfC)", "CfCUnit")
    for steps in (1, 2, 4, 8):
        plural = "s" * (steps > 1)
        yield unit(f"{steps} explicit Euler step{plural}", "EulerUnit", steps=steps)
    yield unit("x + SiLU(v) in all phases", "SiLUUnit")
    yield unit("no leak", "LeaklessFTFU")
    yield unit("one convolution for attractor and conductance", "SharedFTFU")
    yield unit("conductance of the pixel alone", "FTFU", conductance_kernel_size=1)
    yield unit("conductance with a kernel of 5", "FTFU", conductance_kernel_size=5)
    yield unit("attractor without the state", "FreeFTFU")
    yield unit("attractor without the state, bounded", "BoundedFTFU")
    yield unit("conductance of the attractor", "CascadedFTFU")
    yield unit("FTFU that also sees the mean over the image", "PooledFTFU")
    for steps in (2, 3):
        yield unit(f"{steps} closed-form steps with shared weights", "RepeatedFTFU", steps=steps)
    question = "Stem, downsampling and feed-forward"
    yield row("two convolutions in the stem", deep_stem=False)
    yield row("depthwise downsampling", dense_downsample=False)
    yield row("no convolution in the feed-forward", conv_ffn=False)
    yield row("none of the three", deep_stem=False, dense_downsample=False, conv_ffn=False)
    question = "Time constants"
    yield ftfu("not learned", "FixedTauFTFU")
    yield ftfu("one per phase", "SharedTauFTFU")
    yield row("all equal at first", tau=(4.0, 4.0))
    yield row("faster at first", tau=(0.25, 4.0))
    yield row("slower at first", tau=(4.0, 64.0))
    for dt in (0.25, 4.0):
        yield ftfu(f"a step of {dt:g}", dt=dt)
    question = "Phases, as (kernel, grid) from fast to slow"
    for reaches in (
        ((3, 1),),
        ((3, 1), (3, 1), (3, 2)),
        ((3, 1), (3, 1), (3, 2), (3, 2)),
        ((3, 1), (3, 1)),
        ((3, 1), (5, 1)),
        ((3, 1), (7, 1)),
        ((3, 1), (9, 1)),
        ((3, 1), (5, 2)),
        ((7, 1), (7, 2)),
        ((3, 1), (3, 4)),
    ):
        yield row(", ".join(map(str, reaches)), phases=(reaches,) * len(STRIDES))
    yield ftfu("slow phase that also sees the mean over the image", "PooledFTFU")
    question = base.question
    for name, fields_of_arch in base.shapes.items():
        yield row(name, **fields_of_arch)


def settings_of(arguments: Mapping[str, object]) -> str:
    """The arguments that tell variants apart, in one canonical text, from a row or a record."""
    arch = FVNet.get_arch(arguments["arch"]).replaced(**{name: arguments.get(name) for name in ARCH})
    arch = arch.replaced(expansions=tuple(map(float, arch.expansions)))
    units = units_of(arguments.get("unit"), max(map(len, arch.phases)))
    units = [{key: float(x) if isinstance(x, int) else x for key, x in each.items()} for each in units]
    return json.dumps([asdict(arch), units, [float(tau) for tau in arguments.get("tau", (1.0, 16.0))]], sort_keys=True)


@cache
def _network(arguments: str) -> FVNet:
    with torch.device("meta"):
        return FVNet(**json.loads(arguments))


def network(arguments: Mapping[str, object]) -> FVNet:
    """FVNet with these arguments, without values for its weights."""
    return _network(json.dumps(arguments))


def cost(arguments: Mapping[str, object]) -> tuple[str, str]:
    """Parameters in millions and MACs in G, of FVNet with these arguments."""
    net = network(arguments)
    return f"{count_parameters(net) / 1e6:.2f}", f"{count_macs(net, IMAGE) / 1e9:.3f}"


def arguments_of(record: RunRecord) -> dict[str, object]:
    """A trunk's arguments from its record; of an FVNet whose size was built otherwise then, with that spelt out.

    Raises:
        UserError: No version of its size has as many parameters.
    """
    arguments = record.backbone.arguments
    if record.backbone.type != "FVNet" or record.complexity is None:
        return arguments
    counted = record.complexity.parameters["backbone"]
    for former in ({}, *FORMER.get(str(arguments.get("arch")), {}).values()):
        if count_parameters(network({**former, **arguments})) == counted:
            return {**former, **arguments}
    raise UserError(
        f"no version of {record.backbone.name} with {arguments} has {counted} parameters; say which it was."
    )
