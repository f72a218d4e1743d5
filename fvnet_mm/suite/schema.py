"""What a suite's YAML file may say; docs/suite.md explains it to its writers."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from fvnet_mm.records.parts import Part

DEMO, OWN = "demo", "config"
"""Data sets that are no folders: the generated set of ``--demo``, and what the config itself names."""

_OPTION = re.compile(r"[A-Za-z_][\w.]*=")


def _option(word: str) -> str:
    """A word of ``--cfg-options``; nothing that a command line could take for a flag."""
    if not _OPTION.match(word) or not word.isprintable():
        raise ValueError("is no KEY=VALUE word, such as optim_wrapper.optimizer.lr=2e-4")
    return word


Option = Annotated[str, AfterValidator(_option)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=150)]
"""A folder's name, which cannot lead out of the suite's work dir."""

_LONGEST = 255
"""Bytes of a file's name on any file system in use."""


def _path(path: str | Path) -> str | Path:
    """A name or path that the system can look for."""
    if any(len(part.encode(errors="surrogateescape")) > _LONGEST for part in str(path).split("/")):
        raise ValueError(f"has a part of more than {_LONGEST} bytes, which no file has")
    return path


Text = Annotated[str, StringConstraints(min_length=1), AfterValidator(_path)]
File = Annotated[Path, AfterValidator(_path)]


class Settings(Part):
    """How a job is trained, in the words of the flags of ``tools/train.py``.

    Attributes:
        cfg_options: ``KEY=VALUE`` words.
        weights: File or URL of the trunk's initial weights.
        pretraining: What the pretraining of ``weights`` was.
        scratch: Random initial weights.
        amp: Mixed precision.
        cuda_graphs: Replay backbone and neck as CUDA graphs.
        auto_scale_lr: Scale the learning rate with the batch.
        skip_bad_images: Leave out images that cannot be decoded.
    """

    cfg_options: tuple[Option, ...] = ()
    weights: Text | None = None
    pretraining: Literal["plain", "distilled"] | None = None
    scratch: bool = False
    amp: Literal["bf16", "fp16"] | None = None
    cuda_graphs: bool = False
    auto_scale_lr: bool = False
    skip_bad_images: bool = False

    @model_validator(mode="after")
    def _one_beginning(self) -> "Settings":
        if self.weights is not None and self.scratch:
            raise ValueError("weights and scratch exclude each other")
        if self.pretraining is not None and self.weights is None:
            raise ValueError("pretraining says how weights came about, and there are none beside it")
        return self

    def overridden(self, other: "Settings") -> "Settings":
        """These settings, where ``other`` does not say otherwise; its options come last, so that they win."""
        said = {name: getattr(other, name) for name in other.model_fields_set & Settings.model_fields.keys()}
        said["cfg_options"] = (*self.cfg_options, *other.cfg_options)
        if said.get("scratch"):
            said |= {"weights": None, "pretraining": None}
        elif "weights" in said:  # what was said of the pretraining of others does not hold for these
            said = {"pretraining": None} | said | ({"scratch": False} if said["weights"] else {})
        own = {name: getattr(self, name) for name in Settings.model_fields}
        return Settings(**(own | said))


class Match(Part):
    """Which jobs of the grid are meant: those that have one of each list; a list that is left out leaves all."""

    backbones: tuple[Text, ...] | None = None
    frameworks: tuple[Text, ...] | None = None
    data: tuple[Text, ...] | None = None
    seeds: tuple[Seed, ...] | None = None

    def takes(self, backbone: str, framework: str, data: str, seed: int) -> bool:
        wanted = ((self.backbones, backbone), (self.frameworks, framework), (self.data, data), (self.seeds, seed))
        return all(listed is None or value in listed for listed, value in wanted)


class Override(Settings):
    """Settings of some jobs of the grid."""

    match: Match


class Run(Settings):
    """Further jobs, one for each seed: a config of the suite or of your own.

    Attributes:
        config: Its file.
        name: Of the jobs, without the seed; by default that of the config, trunk and data.
        backbone: Another trunk than the config's.
        data: 'config', 'demo' or a folder.
        seeds: Of everything random.
    """

    config: File
    name: Name | None = None
    backbone: Text | None = None
    data: Text = OWN
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)


class SuiteFile(Settings):
    """A whole file: a grid of backbones x frameworks x data x seeds, and further runs.

    Its own settings hold for every job, overrides for those of the grid that they match, later ones over earlier ones.

    Attributes:
        name: Of the suite; by default that of the file.
        work_dir: Folder of the jobs' work dirs; by default ``work_dirs/NAME``.
        backbones: Trunks: descriptions in ``configs/_base_/backbones``, paths of others, or ``timm:NAME``.
        frameworks: 'retinanet', 'mask_rcnn', 'semantic_fpn', 'upernet'.
        data: 'config', 'demo' or folders.
        seeds: Of everything random.
        exclude: Jobs of the grid that are left out.
        overrides: Settings of some jobs of the grid.
        runs: Further jobs.
    """

    name: Name | None = None
    work_dir: File | None = None
    backbones: tuple[Text, ...] = ()
    frameworks: tuple[Text, ...] = ()
    data: Annotated[tuple[Text, ...], Field(min_length=1)] = (OWN,)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    exclude: tuple[Match, ...] = ()
    overrides: tuple[Override, ...] = ()
    runs: tuple[Run, ...] = ()

    @model_validator(mode="after")
    def _has_jobs(self) -> "SuiteFile":
        if bool(self.backbones) != bool(self.frameworks):
            missing = "frameworks" if self.backbones else "backbones"
            raise ValueError(f"a grid takes backbones and frameworks, and {missing} are missing")
        if not self.backbones and not self.runs:
            raise ValueError("there are neither backbones and frameworks nor runs, so there is nothing to train")
        return self
