"""``--backbone NAME``: another trunk in a config of the suite."""

import ast
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmengine.config import Config, ConfigDict

from fvnet_mm.engine.config_file import read_config
from fvnet_mm.errors import UserError, enumeration
from fvnet_mm.places import CONFIGS, DESCRIPTIONS

TIMM_PREFIX = "timm:"

RETINANET_STAGES = {1, 2, 3}
"""Stages, counted from 0, that RetinaNet reads: those with strides 8, 16 and 32. The other frameworks read all."""


def plug_backbone(cfg: Config, name: str) -> None:
    """Puts another backbone into a config, its channels into what reads them, and its name into the config's.

    Args:
        cfg: A config of the suite: ``levels`` says which of the four stages are read.
        name: A description in ``configs/_base_/backbones`` or of another path (see :func:`describe`), or ``timm:NAME``.

    Raises:
        UserError: There is no such backbone, or the config has no place for it.
    """
    if "levels" not in cfg or "backbone_name" not in cfg:
        raise UserError(f"{cfg.filename} does not say which stages its neck reads; use a config of the suite.")
    description = describe(name, Path(cfg.filename).parent)
    _check_stages(cfg, name, description.channels)
    cfg.model.backbone = ConfigDict(description.backbone, out_indices=cfg.levels)
    set_in_channels(cfg.model, [description.channels[level] for level in cfg.levels])
    if cfg.backbone_name in cfg.config_name:
        cfg.config_name = cfg.config_name.replace(cfg.backbone_name, description.backbone_name)
    else:  # a config that its user named after something else
        cfg.config_name = f"{cfg.config_name}_{description.backbone_name}"
    for key in ("backbone_name", "backbone", "channels", "weights"):
        cfg[key] = description[key]
    if "custom_imports" in description:  # for those who read the config that a run writes
        own = cfg.get("custom_imports") or dict(imports=[], allow_failed_imports=False)
        imports = dict.fromkeys([*_names(own), *_names(description.custom_imports)])
        cfg.custom_imports = dict(own, imports=list(imports))


def _names(custom_imports: dict[str, object]) -> list[str]:
    names = custom_imports.get("imports", [])
    return [names] if isinstance(names, str) else list(names)


def _check_stages(cfg: Config, name: str, channels: Sequence[int | None]) -> None:
    """Refuses a backbone that lacks one of the stages that a config reads."""
    present = {stage for stage, count in enumerate(channels) if count is not None}
    if present.issuperset(cfg.levels):
        return
    # What can be done is seen from the suite's own frameworks: RetinaNet reads the fewest stages of them.
    advice = " or a config of RetinaNet, which reads no others" if present == RETINANET_STAGES else ""
    raise UserError(
        f"the backbone {name} has features at {_strides(present)} and {cfg.config_name} reads {_strides(cfg.levels)}; "
        f"choose a backbone that has them{advice}."
    )


def _strides(stages: Iterable[int]) -> str:
    strides = [_all_strides()[stage] for stage in sorted(stages)]
    return f"stride{'s' * (len(strides) > 1)} {enumeration(strides)}"


def _all_strides() -> tuple[int, ...]:
    from fvnet_mm.backbones.arch import STRIDES  # late: the package brings the libraries

    return STRIDES


def describe(name: str, beside: Path = CONFIGS) -> ConfigDict:
    """Reads what is known of a trunk: ``backbone_name``, ``backbone`` (its config), ``channels``, ``weights``.

    ``channels`` are those at strides 4, 8, 16 and 32, None where a model has no features of that stride. ``weights``
    are None where a description says nothing of them. ``custom_imports`` are there if a description has some.

    Args:
        name: File name of a description without its suffix, a path to one that ends in ``.py``, or ``timm:NAME`` for
            any model of timm.
        beside: Folder of the config that it is for; descriptions there go before the repository's.

    Raises:
        UserError: There is no such description or model, it is not complete, or it cannot serve as a trunk.
    """
    if name.startswith(TIMM_PREFIX):
        return _describe_timm_model(name.removeprefix(TIMM_PREFIX))
    if name.endswith(".py"):
        return _read_description(Path(name))
    folders = [folder / DESCRIPTIONS for folder in (beside, CONFIGS)]
    path = next((folder / f"{name}.py" for folder in folders if (folder / f"{name}.py").is_file()), None)
    if path is None:
        known = sorted({file.stem for folder in folders for file in folder.glob("*.py")})
        close = difflib.get_close_matches(name, known, n=3) or known
        raise UserError(
            f"there is no backbone {name!r} in {folders[-1]}; {'the closest are' if close != known else 'it has'} "
            f"{', '.join(close)} (any other model of timm is {TIMM_PREFIX}NAME, a description of your own PATH.py)."
        )
    return _read_description(path)


def _read_description(path: Path) -> ConfigDict:
    """Reads the file that describes a backbone.

    Raises:
        UserError: It is missing, cannot be read, or lacks something.
    """
    if own := _classes_in(path):
        raise UserError(
            f"backbone file {path} is code (it defines {enumeration(own)}); --backbone takes the description of a "
            "backbone, a file that names its class, channels and module: docs/own_backbone.md has an example."
        )
    cfg = read_config(path, "backbone")
    if Config._is_lazy_import(str(path)):
        raise UserError(
            f"backbone file {path} has an import statement, so that mmengine takes it for its other dialect of configs "
            "and registers nothing; write custom_imports = dict(imports=['MODULE'], allow_failed_imports=False) in the "
            "statement's place, or _base_ = [] above it if the file itself needs what it imports."
        )
    missing = [key for key in ("backbone_name", "backbone", "channels") if key not in cfg]
    if missing:
        raise UserError(f"backbone file {path} lacks {' and '.join(missing)}; docs/own_backbone.md has an example.")
    channels = cfg.channels
    whole = isinstance(channels, list | tuple) and all(count is None or isinstance(count, int) for count in channels)
    if not whole or len(channels) != len(_all_strides()):
        raise UserError(
            f"backbone file {path}: channels are {channels} and must be four numbers, those of the maps at strides 4, "
            "8, 16 and 32, with None for a stride that it lacks."
        )
    if not isinstance(cfg.backbone, dict) or "type" not in cfg.backbone:
        raise UserError(f"backbone file {path}: backbone must be dict(type='CLASS', ...) and is {cfg.backbone}.")
    description = {key: cfg.get(key) for key in ("backbone_name", "backbone", "channels", "weights")}
    if cfg.get("custom_imports"):
        description["custom_imports"] = cfg.custom_imports
    return ConfigDict(description)


def _classes_in(path: Path) -> list[str]:
    """The classes that a file defines; none where it describes a backbone, or cannot be read as Python."""
    try:
        statements = ast.parse(path.read_bytes()).body
    except (OSError, ValueError, SyntaxError):  # which reading it as a config puts into words
        return []
    targets = [ast.unparse(target) for each in statements if isinstance(each, ast.Assign) for target in each.targets]
    return [] if "backbone" in targets else [each.name for each in statements if isinstance(each, ast.ClassDef)]


def _describe_timm_model(model_name: str) -> ConfigDict:
    from fvnet_mm.backbones.timm_backbone import default_weights
    from fvnet_mm.backbones.timm_features import pyramid_channels

    try:
        channels = pyramid_channels(model_name)
    except ValueError as error:
        raise UserError(f"--backbone {TIMM_PREFIX}{model_name}: {error}") from error
    stages = tuple(stage for stage, count in enumerate(channels) if count is not None)
    if not stages:
        raise UserError(
            f"--backbone {TIMM_PREFIX}{model_name}: it has no features at strides 4, 8, 16 or 32; choose another model."
        )
    backbone = dict(type="TimmBackbone", model_name=model_name, out_indices=stages)
    weights = default_weights(model_name)
    if weights:
        backbone["init_cfg"] = dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"])
    return ConfigDict(
        backbone_name=model_name.replace(".", "_").replace("/", "_"),
        backbone=backbone,
        channels=channels,
        weights=weights,
    )


def set_in_channels(model: ConfigDict, channels: Sequence[int]) -> None:
    """Writes the channels of a backbone's outputs into the neck of a model config, or its heads if none reads them."""
    if "in_channels" in model.get("neck", {}):
        model.neck.in_channels = list(channels)
        return
    for name in ("decode_head", "auxiliary_head", "head"):
        if name in model:
            index = model[name].get("in_index", -1)
            picked = [channels[i] for i in index] if isinstance(index, list | tuple) else channels[index]
            model[name].in_channels = picked
