"""The runs of the comparison, read from records: trunks, what of them is not as described, and their scores."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from inspect import signature
from pathlib import Path
from typing import NamedTuple

from ablation_rows import arguments_of
from ablation_runs import NOT_VARIED, main_value, setting

from fvnet_mm.backbones import FVNet
from fvnet_mm.backbones.mpfb import units_of
from fvnet_mm.engine.trunk import describe
from fvnet_mm.errors import UserError
from fvnet_mm.records import RunRecord
from fvnet_mm.records.reading import RECORD, read_record
from fvnet_mm.report.leaderboard.names import TRUNKS

PHASES = 2
"""Of a block of FVNet, of which its units are spelt out."""
FLOOR = "mynet_small"
"""A network of four convolutions (docs/own_backbone), of which nobody would say that it is a backbone."""

described = cache(describe)
"""Reads a trunk's description once, however many runs it has."""


class Trunk(NamedTuple):
    """A trunk by the name of its description, and what is not as there, as JSON."""

    name: str
    changed: str = "{}"

    @property
    def arguments(self) -> dict[str, object]:
        return json.loads(self.changed)

    def __str__(self) -> str:
        return ", ".join((TRUNKS[self.name], *(f"`{key}={value}`" for key, value in self.arguments.items())))


Scores = Mapping[Trunk, Mapping[int, float]]
"""By trunk: accuracies by seed."""


def trunk_of(record: RunRecord) -> Trunk:
    """The trunk of a run."""
    if record.backbone.name == FLOOR:
        return Trunk(FLOOR)
    return Trunk(record.backbone.name, changes(record.backbone.name, arguments_of(record)))


def changes(name: str, arguments: Mapping[str, object]) -> str:
    """Those arguments of a trunk that are not as in its description, as JSON."""
    usual = dict(described(name).backbone)
    if usual["type"] == "FVNet":
        usual = spelt_out(usual)
    return as_text(
        {
            key: value
            for key, value in arguments.items()
            if key not in NOT_VARIED and key != "type" and as_text(meant(key, value)) != as_text(usual.get(key))
        }
    )


def spelt_out(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments of an FVNet, and what it takes where they say nothing."""
    defaults = {name: parameter.default for name, parameter in signature(FVNet).parameters.items()}
    arch = asdict(FVNet.get_arch(arguments["arch"]))
    return {key: meant(key, value) for key, value in {**defaults, **arch, **arguments}.items()}


def meant(key: str, value: object) -> object:
    """One value for all ways to write a trunk's argument."""
    if key == "unit":
        return units_of(value, PHASES)
    if key in ("tau", "expansions"):
        return [float(number) for number in value]
    return value


def as_text(value: object) -> str:
    """One text for a tuple and the same list."""
    return json.dumps(value, sort_keys=True)


def read_scores(folders: Sequence[Path]) -> dict[str, dict[Trunk, dict[int, float]]]:
    """The main metric of the finished runs in these folders: by setting, by trunk and by seed.

    Raises:
        UserError: A record cannot be read or has no result, or two runs of a trunk have one seed.
    """
    found: dict[str, dict[Trunk, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for folder in folders:
        record = read_record(folder / RECORD)
        value = main_value(record)
        if record.status != "finished" or value is None or record.seed is None:
            raise UserError(f"{folder} holds no finished run with a seed; leave it out.")
        seeds = found[setting(record)][trunk_of(record)]
        if record.seed in seeds:
            raise UserError(f"{folder} is a second run with seed {record.seed} of the same trunk; leave one out.")
        seeds[record.seed] = value
    return found


def read_devices(folders: Sequence[Path]) -> dict[str, dict[Trunk, set[str | None]]]:
    """By setting and by trunk: the devices that it was run on."""
    devices: dict[str, dict[Trunk, set[str | None]]] = defaultdict(lambda: defaultdict(set))
    for record in (read_record(folder / RECORD) for folder in folders):
        devices[setting(record)][trunk_of(record)].add(record.environment.device)
    return devices
