"""The rows of the ablation's tables: what each changes in FVNet, and what it costs, counted from the code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import NamedTuple

import torch

from fvnet_mm.backbones import FVNet, FVNetArch
from fvnet_mm.backbones.arch import STRIDES
from fvnet_mm.bench.complexity import count_macs, count_parameters

IMAGE = (1, 3, 224, 224)
BASE = "t"
FTFU = {"type": "FTFU"}
ARCH = tuple(field.name for field in fields(FVNetArch))

SHAPES: dict[str, dict[str, dict[str, object]]] = {
    "t": {
        "more blocks at stride 16": {"depths": (1, 1, 10, 3)},
        "more blocks elsewhere": {"depths": (3, 3, 6, 4)},
        "narrower and deeper": {"channels": (24, 48, 136, 272), "depths": (4, 4, 13, 4)},
        "wider and shallower": {"channels": (40, 80, 192, 384), "depths": (1, 2, 6, 2)},
        "wider at strides 4 and 8": {"channels": (48, 96, 160, 320), "depths": (1, 2, 7, 3)},
        "much wider and shallower": {"channels": (48, 96, 192, 384), "depths": (1, 1, 5, 2)},
        "expansion 2, deeper": {"expansions": (2.0,) * 4, "depths": (2, 2, 12, 4)},
        "expansion 3": {"expansions": (3.0,) * 4},
        "expansion 4, shallower": {"expansions": (4.0,) * 4, "depths": (1, 2, 7, 2)},
    },
    "s": {"narrower at strides 16 and 32": {"channels": (64, 128, 192, 384), "depths": (1, 2, 8, 3)}},
    "m": {"wider at strides 4 and 8": {"channels": (64, 128, 272, 544), "depths": (1, 2, 7, 3)}},
    "l": {},
}
"""By size of FVNet: its blocks and channels otherwise, T at about its own cost."""


class Variant(NamedTuple):
    """A row: what is changed in words, and the arguments of FVNet that do it."""

    question: str
    name: str
    arguments: dict[str, object]


def variants(arch: str = BASE) -> Iterator[Variant]:
    """All rows of a size of FVNet in their order; the first is FVNet as it is."""

    def unit(kind: str, **options: object) -> dict[str, object]:
        return {"unit": {"type": kind, **options}}

    def phases(*reaches: tuple[int, int]) -> dict[str, object]:
        return {"phases": (reaches,) * len(STRIDES)}

    question = "What the phases hold"
    yield Variant(question, "FTFU", {})
    yield Variant(question, "two plain depthwise convolutions", unit("DepthwiseUnit"))
    yield Variant(question, "gate of a GRU", unit("GatedUnit"))
    yield Variant(question, "sigmoid approximation (CfC)", unit("CfCUnit"))
    for steps in (1, 2, 4, 8):
        plural = "s" * (steps > 1)
        yield Variant(question, f"{steps} explicit Euler step{plural}", unit("EulerUnit", steps=steps))
    yield Variant(question, "x + SiLU(v)", unit("SiLUUnit"))
    yield Variant(question, "no leak", unit("LeaklessFTFU"))
    yield Variant(question, "one convolution for attractor and conductance", unit("SharedFTFU"))
    yield Variant(question, "conductance of the pixel alone", unit("FTFU", conductance_kernel_size=1))
    yield Variant(question, "conductance with a kernel of 5", unit("FTFU", conductance_kernel_size=5))
    yield Variant(question, "attractor without the state", unit("FreeFTFU"))
    yield Variant(question, "attractor without the state, bounded", unit("BoundedFTFU"))
    yield Variant(question, "conductance of the attractor", unit("CascadedFTFU"))
    yield Variant(question, "FTFU that also sees the mean over the image", unit("PooledFTFU"))
    for steps in (2, 3):
        yield Variant(question, f"{steps} closed-form steps with shared weights", unit("RepeatedFTFU", steps=steps))
    question = "Time constants"
    yield Variant(question, "not learned", unit("FixedTauFTFU"))
    yield Variant(question, "one per phase", unit("SharedTauFTFU"))
    yield Variant(question, "all equal at first", {"tau": (4.0, 4.0)})
    yield Variant(question, "faster at first", {"tau": (0.25, 4.0)})
    yield Variant(question, "slower at first", {"tau": (4.0, 64.0)})
    for dt in (0.25, 4.0):
        yield Variant(question, f"a step of {dt:g}", unit("FTFU", dt=dt))
    yield Variant(question, "a longer step in the slow phase", {"unit": [{**FTFU, "dt": 0.5}, {**FTFU, "dt": 2.0}]})
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
        yield Variant(question, ", ".join(map(str, reaches)), phases(*reaches))
    pooled = {"unit": [FTFU, {"type": "PooledFTFU"}]}
    yield Variant(question, "slow phase that also sees the mean over the image", pooled)
    question = "Depths, widths and expansions"
    for name, fields_of_arch in SHAPES[arch].items():
        yield Variant(question, name, fields_of_arch)


def settings_of(arguments: Mapping[str, object]) -> str:
    """The arguments that tell variants apart, in one canonical text, from a row or a record."""
    arch = FVNet.get_arch(arguments.get("arch", BASE)).replaced(**{name: arguments.get(name) for name in ARCH})
    arch = arch.replaced(expansions=tuple(map(float, arch.expansions)))
    unit = arguments.get("unit", FTFU)
    units = [unit] * max(map(len, arch.phases)) if isinstance(unit, Mapping) else unit
    units = [{**FTFU, **{key: float(x) if isinstance(x, int) else x for key, x in each.items()}} for each in units]
    return json.dumps([asdict(arch), units, [float(tau) for tau in arguments.get("tau", (1.0, 16.0))]], sort_keys=True)


def cost(arguments: Mapping[str, object]) -> tuple[str, str]:
    """Parameters in millions and MACs in G, of FVNet with these arguments."""
    with torch.device("meta"):
        net = FVNet(**arguments)
    return f"{count_parameters(net) / 1e6:.2f}", f"{count_macs(net, IMAGE) / 1e9:.3f}"
