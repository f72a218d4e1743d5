"""The models of a benchmark, from the words of a command line to built modules with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

import fvnet_mm.backbones  # noqa: F401  (registers FVNet, TimmBackbone and EfficientFormer)
from fvnet_mm.engine.config_file import read_config, replace_sync_batch_norm
from fvnet_mm.engine.quiet import without_remarks
from fvnet_mm.engine.run_facts import describe_backbone
from fvnet_mm.engine.runner import build_model
from fvnet_mm.engine.trunk import describe, plug_backbone
from fvnet_mm.engine.weights import remove_pretrained
from fvnet_mm.errors import UserError
from fvnet_mm.records import Backbone


@dataclass(frozen=True)
class Subject:
    """A model that is measured.

    Attributes:
        name: The config's, with a plugged backbone's in the place of its own, or the trunk's.
        source: As the command line names it.
        config: The config file; None for a trunk alone.
        trunk: Of a trunk alone, or to be plugged into the config.
        backbone: What the trunk is.
    """

    name: str
    source: str
    config: Path | None
    trunk: str | None
    backbone: Backbone

    @property
    def whole(self) -> bool:
        """Whether it is more than a trunk."""
        return self.config is not None


def find_subjects(words: Sequence[str], backbones: Sequence[str] = ()) -> list[Subject]:
    """The models that a command line names, in its order.

    Args:
        words: Config files, names or files of backbone descriptions (files end in ``.py``), or ``timm:NAME``.
        backbones: Trunks with which each of the configs is measured, too.

    Raises:
        UserError: A config or trunk does not exist, one is given twice, or there is no config for the backbones.
    """
    subjects = []
    for word in words:
        file = word.endswith(".py")
        if not file or _describes_a_trunk(Path(word)):
            cfg = _config(None, word)
            name = cfg.backbone_name if file else word
            subjects.append(Subject(name, word, None, word, describe_backbone(cfg)))
            continue
        for trunk in (None, *backbones):
            cfg = _config(Path(word), trunk)
            source = word if trunk is None else f"{word} --backbone {trunk}"
            subjects.append(Subject(cfg.config_name, source, Path(word), trunk, describe_backbone(cfg)))
    if backbones and not any(subject.whole for subject in subjects):
        raise UserError("--backbone puts trunks into configs and no config is given; name trunks alone without it.")
    names = [subject.name for subject in subjects]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{twice} is given twice; leave out one.")
    return subjects


def build_subject(subject: Subject) -> nn.Module:
    """A subject's module in eval mode with random weights, the same at every call.

    Raises:
        UserError: It cannot be built.
    """
    with without_remarks(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cfg = _config(subject.config, subject.trunk)
        model = cfg.model if subject.whole else cfg.model.backbone
        remove_pretrained(model)
        model.pop("teacher", None)
        replace_sync_batch_norm(model, "BN")
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
            module = build_model(model)
            module.init_weights()
    return module.eval()


def trunk_of(module: nn.Module) -> nn.Module:
    """The trunk of a whole model, or the module itself if it is a trunk alone."""
    return getattr(module, "backbone", module)


def _describes_a_trunk(path: Path) -> bool:
    """Whether a file is a trunk's description (docs/own_backbone.md) and no config."""
    cfg = read_config(path, "config")
    return "backbone" in cfg and "model" not in cfg


def _config(path: Path | None, trunk: str | None) -> Config:
    """A config with a trunk plugged in where one is named, or a config of nothing but a trunk."""
    if path is None:
        description = describe(trunk)
        return Config(dict(model=dict(backbone=description.backbone), backbone_name=description.backbone_name))
    cfg = read_config(path, "config")
    if not isinstance(cfg.get("model"), dict) or "backbone" not in cfg.model:
        raise UserError(f"{path} has no model with a backbone; give one of the configs, or the name of a trunk.")
    cfg.config_name = cfg.get("config_name") or path.stem
    if trunk is not None:
        plug_backbone(cfg, trunk)
    return cfg
