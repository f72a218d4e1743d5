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
from fvnet_mm.bench.complexity import count_macs, count_parameters
from fvnet_mm.errors import UserError
from fvnet_mm.records import RunRecord

IMAGE = (1, 3, 224, 224)
FTFU = {"type": "FTFU"}
ARCH = tuple(field.name for field in fields(FVNetArch))


@dataclass(frozen=True)
class Base:
    """A network whose parts are changed one at a time: its name, its arguments, and its shapes otherwise, by name."""

    title: str
    arguments: dict[str, object]
    shapes: dict[str, dict[str, object]] = field(default_factory=dict)


FIRST_T = {"channels": (32, 64, 160, 320), "depths": (2, 2, 9, 3)}
SECOND_T = {"channels": (48, 96, 160, 320), "depths": (1, 2, 7, 3)}
THIRD_T = {"channels": (64, 128, 160, 256), "depths": (2, 3, 4, 2)}
FIRST_S = {"channels": (64, 128, 224, 448), "depths": (1, 2, 9, 3)}
SECOND_S = {"channels": (64, 128, 192, 384), "depths": (1, 2, 8, 3)}

FIRST_M = {"channels": (48, 96, 272, 544), "depths": (1, 2, 8, 3)}

FORMER = {"t": (FIRST_T, SECOND_T, THIRD_T), "s": (FIRST_S, SECOND_S), "m": (FIRST_M,)}
"""What sizes were built as before; records of then name the size alone."""

BASES = (
    Base(
        "FVNet-T",
        {"arch": "t"},
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
            "more blocks at stride 16": {"depths": (1, 1, 8, 2)},
            "narrower and deeper": {"channels": (48, 96, 144, 256), "depths": (3, 4, 6, 3)},
            "wider and shallower": {"channels": (80, 144, 176, 256), "depths": (1, 2, 4, 2)},
            "expansion 2, deeper": {"expansions": (2.0,) * 4, "depths": (1, 2, 8, 3)},
            "expansion 3": {"expansions": (3.0,) * 4, "depths": (1, 2, 5, 2)},
            "expansion 4, shallower": {"expansions": (4.0,) * 4, "depths": (1, 1, 4, 2)},
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
    Base(
        "FVNet-S",
        {"arch": "s"},
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
    Base("FVNet-M", {"arch": "m"}, {"as first built": FIRST_M}),
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
    """All rows of a base in their order, the first of which is the base as it is."""

    def row(name: str, **changed: object) -> Variant:
        return Variant(question, name, {**base.arguments, **changed})

    def unit(name: str, kind: str, **options: object) -> Variant:
        return row(name, unit={"type": kind, **options})

    question = "What the phases hold"
    yield row("FTFU")
    yield unit("two plain depthwise convolutions", "DepthwiseUnit")
    yield unit("gate of a GRU", "GatedUnit")
    yield unit("sigmoid approximation (CfC)", "CfCUnit")
    for steps in (1, 2, 4, 8):
        plural = "s" * (steps > 1)
        yield unit(f"{steps} explicit Euler step{plural}", "EulerUnit", steps=steps)
    yield unit("x + SiLU(v)", "SiLUUnit")
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
    question = "Time constants"
    yield unit("not learned", "FixedTauFTFU")
    yield unit("one per phase", "SharedTauFTFU")
    yield row("all equal at first", tau=(4.0, 4.0))
    yield row("faster at first", tau=(0.25, 4.0))
    yield row("slower at first", tau=(4.0, 64.0))
    for dt in (0.25, 4.0):
        yield unit(f"a step of {dt:g}", "FTFU", dt=dt)
    yield row("a longer step in the slow phase", unit=[{**FTFU, "dt": 0.5}, {**FTFU, "dt": 2.0}])
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
        ((3, 1), (3, 4)),
    ):
        yield row(", ".join(map(str, reaches)), phases=(reaches,) * len(STRIDES))
    yield row("slow phase that also sees the mean over the image", unit=[FTFU, {"type": "PooledFTFU"}])
    question = "Depths, widths and expansions"
    for name, fields_of_arch in base.shapes.items():
        yield row(name, **fields_of_arch)


def settings_of(arguments: Mapping[str, object]) -> str:
    """The arguments that tell variants apart, in one canonical text, from a row or a record."""
    arch = FVNet.get_arch(arguments["arch"]).replaced(**{name: arguments.get(name) for name in ARCH})
    arch = arch.replaced(expansions=tuple(map(float, arch.expansions)))
    unit = arguments.get("unit", FTFU)
    units = [unit] * max(map(len, arch.phases)) if isinstance(unit, Mapping) else unit
    units = [{**FTFU, **{key: float(x) if isinstance(x, int) else x for key, x in each.items()}} for each in units]
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
    for former in ({}, *FORMER.get(str(arguments.get("arch")), ())):
        if count_parameters(network({**former, **arguments})) == counted:
            return {**former, **arguments}
    raise UserError(
        f"no version of {record.backbone.name} with {arguments} has {counted} parameters; say which it was."
    )
