"""What a record says of a run beside its results: protocol, data, weights, environment, size."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Set
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import fvnet_mm
from fvnet_mm.bench.model_complexity import count_model, customary_shape
from fvnet_mm.data.coco_index import CocoDocuments
from fvnet_mm.data.coco_layout import CocoSplit
from fvnet_mm.data.fingerprint import fingerprint
from fvnet_mm.engine.building import unwrapped
from fvnet_mm.engine.download import locate
from fvnet_mm.engine.tasks import DataSource
from fvnet_mm.engine.tasks.base import Folder
from fvnet_mm.engine.trunk_source import source_digest
from fvnet_mm.engine.weights import loaded_weights, pretrained_checkpoints
from fvnet_mm.files import sha256_of
from fvnet_mm.places import ROOT
from fvnet_mm.records import Backbone, Complexity, Data, Environment, Split, Weights
from fvnet_mm.records.from_config import OF_TEACHER, trunk_name
from fvnet_mm.records.words import in_words, name_of

LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "mmengine",
    "mmcv",
    "mmcv-lite",
    "mmdet",
    "mmsegmentation",
    "mmpretrain",
    "timm",
    "pycocotools",
)
"""Distributions whose versions may show in a result."""


def describe_backbone(cfg: Config) -> Backbone:
    """The trunk of a config: its description's name where it still is that one, what makes it, and its code."""
    settings = cfg.to_dict()
    trunk = settings["model"].get("backbone") or {}
    rest = {key: value for key, value in trunk.items() if key not in ("type", "init_cfg")}
    return Backbone(
        name=trunk_name(settings),
        type=name_of(trunk) or None,
        arguments=json.loads(json.dumps(rest, default=str)),
        source_sha256=source_digest(trunk, cfg.get("default_scope")),
    )


def changes_of_trunk(then: Backbone, now: Backbone) -> dict[str, tuple[str, str]]:
    """In what two trunks are not the same network: what to call it, and both sides of it."""
    changes = {}
    # In words, since a norm that is synchronised is the same on any number of devices.
    if (now.type, in_words(now.arguments)) != (then.type, in_words(then.arguments)):
        changes["backbone"] = then.name, now.name
    codes = then.source_sha256, now.source_sha256
    if None not in codes and len({*codes}) > 1:
        changes["code of the backbone"] = codes[0][:8], codes[1][:8]
    return changes


def trunk_settings(model: nn.Module) -> dict[str, bool | int | str]:
    """The protocol's fields that the built trunk decides, since defaults differ from one to the other.

    Its attributes ``norm_eval`` and ``frozen_stages`` count, and what it does without them: batch norms that its
    ``train()`` leaves in eval mode, and modules none of whose parameters takes a gradient. Those have no number of
    stages: ``frozen_stages`` names them. Single parameters that are fixed are part of the network; those that its
    ``unused_parameters`` names, on which no output depends, are not.
    """
    model = unwrapped(model)
    trunk = getattr(model, "backbone", None)
    stages = getattr(trunk, "frozen_stages", None)
    stages = stages if isinstance(stages, int) else -1
    fields = dict(norm_eval=bool(getattr(trunk, "norm_eval", False)), frozen_stages=stages)
    if not isinstance(trunk, nn.Module):
        return fields
    modes = {module: module.training for module in model.modules()}
    model.train()  # as the loop will do; only a trunk's own method knows what it leaves in eval mode
    kept = [module for module in trunk.modules() if _keeps_statistics(module)]
    for module, mode in modes.items():
        module.training = mode
    if stages >= 0:  # the norms of frozen stages keep their statistics as a matter of course
        kept = [norm for norm in kept if any(parameter.requires_grad for parameter in norm.parameters())]
        return fields | dict(norm_eval=fields["norm_eval"] or bool(kept))
    frozen = _frozen_modules(trunk, getattr(trunk, "unused_parameters", frozenset()))
    return dict(norm_eval=fields["norm_eval"] or bool(kept), frozen_stages=", ".join(frozen) if frozen else stages)


def _keeps_statistics(module: nn.Module) -> bool:
    """Whether it is a batch norm that does not learn its statistics, in the mode that it is in."""
    # torchvision's and timm's frozen norms have no class in common, and no other mode.
    frozen = type(module).__name__.startswith("FrozenBatchNorm")
    return frozen or (isinstance(module, _BatchNorm) and not module.training)


def _frozen_modules(module: nn.Module, unused: Set[str], name: str = "") -> list[str]:
    """The outermost parts of a module that have used parameters and train none of them; 'all' where it is the whole."""
    trained = [parameter.requires_grad for own, parameter in module.named_parameters(name) if own not in unused]
    if trained and not any(trained):
        return [name or "all"]
    if all(trained):
        return []
    return [
        found
        for child_name, child in module.named_children()
        for found in _frozen_modules(child, unused, f"{name}.{child_name}".lstrip("."))
    ]


def pretraining(cfg: Config) -> str:
    """What the trunk starts from, as :class:`~fvnet_mm.records.Protocol` words it."""
    if cfg.get("load_from"):
        return "fine-tuned"
    trunk = cfg.model.get("backbone") or {}
    parts = [part for part in pretrained_checkpoints(cfg.model) if part.part.split(".")[0] != "teacher"]
    if any(part.part.split(".")[0] != "backbone" for part in parts):
        return "fine-tuned"
    if parts:
        return {True: "distilled", False: "plain", None: "unstated"}[parts[-1].distilled]
    libraries_own = cfg.model.get("pretrained") or trunk.get("pretrained") or trunk.get("checkpoint_path")
    return "unstated" if libraries_own else "scratch"


def describe_weights(model: nn.Module, fine_tuned_from: Weights | None) -> tuple[Weights, ...]:
    """What was loaded into the parts of a model when it was initialised, and then into the whole."""
    parts = (
        Weights(
            part=part,
            source=report.source,
            sha256=report.sha256,
            share=report.share,
            distilled=report.distilled,
        )
        for part, report in loaded_weights(model).items()
    )
    return (*((fine_tuned_from,) if fine_tuned_from else ()), *parts)


def describe_teacher(model: nn.Module) -> Weights | None:
    """The weights of a student's teacher; None without one. A test needs no teacher and should not ask."""
    checkpoint = getattr(getattr(unwrapped(model), "teacher", None), "checkpoint", None)
    return Weights(part="teacher", source=str(checkpoint), sha256=sha256_of(locate(checkpoint))) if checkpoint else None


def taught_by(sha256: str) -> str:
    """What the protocol's ``model`` says of a teacher's weights, behind all else."""
    return f"{OF_TEACHER}{sha256[:8]}"


def describe_data(source: DataSource) -> Data:
    """Classes and splits of the data, with their fingerprints."""
    folder: Folder = source.folder
    splits = {
        split.name: Split(
            images=split.image_count,
            objects=split.annotation_count if isinstance(split, CocoSplit) else None,
            fingerprint=fingerprint(split),
        )
        for split in (folder.train, folder.val)
        if split is not None
    }
    return Data(label=source.label, classes=folder.classes, train=splits.get("train"), val=splits["val"])


def evaluates_one_size(source: DataSource) -> bool | None:
    """Whether all validation images have one size; None where no annotations in COCO's layout say so."""
    split = source.folder.val
    if not isinstance(split, CocoSplit):
        return None
    images = CocoDocuments().index(split.annotation_file).images
    return len({(image["width"], image["height"]) for image in images}) == 1


def digest_of_data(data: Data) -> str | None:
    """What a protocol says of the data: a digest of classes and both splits' fingerprints; None if one is unknown."""
    if data.train is None or data.train.fingerprint is None:
        return None
    parts = [data.classes, data.train.fingerprint, data.val.fingerprint]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def describe_complexity(cfg: Config) -> Complexity:
    """Parameters and MACs of a config's model, at the image at which published tables count such a model.

    Raises:
        UserError: It is of a kind that cannot be counted.
    """
    key = json.dumps(cfg.to_dict()["model"], sort_keys=True, default=str)
    if key not in _counted:
        with torch.random.fork_rng(devices=[]):
            _counted[key] = count_model(cfg, customary_shape(cfg))
    return _counted[key]


_counted: dict[str, Complexity] = {}
"""By model, since counting takes seconds."""


@cache
def describe_environment() -> Environment:
    """Versions, device and repository of this process."""
    versions = {"python": platform.python_version(), "fvnet_mm": fvnet_mm.__version__}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    commit, dirty = _git_state(ROOT)
    return Environment(
        versions=versions,
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else processor_name(),
        world_size=get_world_size(),
        threads=torch.get_num_threads(),
        tf32=convolves_in_tf32(),
        git_commit=commit,
        git_dirty=dirty,
    )


def convolves_in_tf32() -> bool:
    """Whether convolutions in float32 are computed in TensorFloat-32, with 10 bits for 23: PyTorch's way on a GPU."""
    able = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    return able and torch.backends.cudnn.allow_tf32


def command_line() -> tuple[str, ...]:
    """What was typed, as far as Python knows."""
    return ("python", *sys.argv)


def processor_name() -> str:
    """The CPU, as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not on Linux
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _git_state(root: Path) -> tuple[str | None, bool | None]:
    """Commit of a checkout and whether it was changed since; (None, None) where there is no checkout or no git."""
    if not (root / ".git").exists():
        return None, None
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *words],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit, bool(changes)
