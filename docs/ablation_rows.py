"""The rows of the ablation's tables: what each changes in FVNet, and what it costs, counted from the code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from functools import cache
from inspect import signature
from typing import NamedTuple

import torch
from ablation_bases import FORMER, FTFU, Base

from fvnet_mm.backbones import FVNet, FVNetArch
from fvnet_mm.backbones.arch import STRIDES
from fvnet_mm.backbones.mpfb import units_of
from fvnet_mm.bench.complexity import count_macs, count_parameters
from fvnet_mm.errors import UserError
from fvnet_mm.records import RunRecord

IMAGE = (1, 3, 224, 224)
ARCH = tuple(field.name for field in fields(FVNetArch))
DEFAULTS = {name: parameter.default for name, parameter in signature(FVNet).parameters.items()}
"""What FVNet takes where it is not told otherwise."""


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

    held = units_of(base.arguments.get("unit"), 2)  # by the fast phase and the slow one
    has_ftfu = FTFU in held

    def ftfu(name: str, kind: str = "FTFU", **options: object) -> Variant:
        """Another FTFU where the base has one."""
        return row(name, unit=[{"type": kind, **options} if each == FTFU else each for each in held])

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
    if has_ftfu:
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
    if has_ftfu:
        yield ftfu("slow phase that also sees the mean over the image", "PooledFTFU")
    question = base.question
    for name, fields_of_arch in base.shapes.items():
        yield row(name, **fields_of_arch)


def settings_of(arguments: Mapping[str, object]) -> str:
    """The arguments that tell variants apart, in one canonical text, from a row or a record."""
    given = {**DEFAULTS, **arguments}
    arch = FVNet.get_arch(given["arch"]).replaced(**{name: given[name] for name in ARCH})
    arch = arch.replaced(expansions=tuple(map(float, arch.expansions)))
    units = units_of(given["unit"], max(map(len, arch.phases)))
    units = [{key: float(x) if isinstance(x, int) else x for key, x in each.items()} for each in units]
    return json.dumps([asdict(arch), units, [float(tau) for tau in given["tau"]]], sort_keys=True)


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
