"""``--backbone NAME``: another trunk in a config of the suite."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmengine.config import Config, ConfigDict

import fvnet_mm
from fvnet_mm.engine.config_file import read_config
from fvnet_mm.errors import UserError

TIMM_PREFIX = "timm:"

DESCRIPTIONS = Path("_base_", "backbones")
"""Folder of the backbone descriptions, from the folder of the configs."""

CONFIGS = Path(fvnet_mm.__file__).parents[1] / "configs"
"""This repository's configs."""

RETINANET_STAGES = {1, 2, 3}
"""Stages, counted from 0, that RetinaNet reads: those with strides 8, 16 and 32. The other frameworks read all."""


def plug_backbone(cfg: Config, name: str) -> None:
    """Puts another backbone into a config, its channels into what reads them, and its name into the config's.

    Args:
        cfg: A config of the suite: ``levels`` says which of the four stages are read.
        name: A description in ``configs/_base_/backbones`` (see :func:`describe`), or ``timm:NAME``.

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
    from fvnet_mm.backbones.arch import STRIDES  # late: the package brings the libraries

    *first, last = (str(STRIDES[stage]) for stage in sorted(stages))
    return f"strides {', '.join(first)} and {last}" if first else f"stride {last}"


def describe(name: str, beside: Path = CONFIGS) -> ConfigDict:
    """Reads what is known of a trunk: ``backbone_name``, ``backbone`` (its config), ``channels``, ``weights``.

    ``channels`` are those at strides 4, 8, 16 and 32, None where a model has no features of that stride.

    Args:
        name: File name of a description without its suffix, or ``timm:NAME`` for any model of timm.
        beside: Folder of the config that it is for; descriptions there go before the repository's.

    Raises:
        UserError: There is no such description or model, or it cannot serve as a trunk.
    """
    if name.startswith(TIMM_PREFIX):
        return _describe_timm_model(name.removeprefix(TIMM_PREFIX))
    folders = [folder / DESCRIPTIONS for folder in (beside, CONFIGS)]
    path = next((folder / f"{name}.py" for folder in folders if (folder / f"{name}.py").is_file()), None)
    if path is None:
        known = sorted({file.stem for folder in folders for file in folder.glob("*.py")})
        close = difflib.get_close_matches(name, known, n=3) or known
        raise UserError(
            f"there is no backbone {name!r} in {folders[-1]}; {'the closest are' if close != known else 'it has'} "
            f"{', '.join(close)} (any other model of timm is {TIMM_PREFIX}NAME)."
        )
    cfg = read_config(path, "backbone")
    return ConfigDict({key: cfg[key] for key in ("backbone_name", "backbone", "channels", "weights")})


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
