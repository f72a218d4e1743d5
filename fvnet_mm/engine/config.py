"""From a command line to one resolved config."""

import argparse
import difflib
import os
from pathlib import Path

from mmengine.config import Config, ConfigDict, DictAction

import fvnet_mm
from fvnet_mm.errors import UserError


def load_config(arguments: argparse.Namespace) -> Config:
    """Reads the config that a command line names and applies the flags that every tool has.

    Order: the file, then ``--backbone``, then ``--cfg-options``, then the other flags.

    Raises:
        UserError: The file is missing or is no config, the backbone has no description, or an override cannot
            be applied.
    """
    cfg = _read(arguments.config, "config")
    name = arguments.config.stem
    if arguments.backbone is not None:
        name = plug_backbone(cfg, arguments.backbone, _descriptions(arguments.config), name)
    apply_overrides(cfg, arguments.cfg_options)
    if not isinstance(cfg.get("model"), dict):
        raise UserError(f"{arguments.config} has no model; give one of the configs, not a file that they are made of.")
    cfg.runner_type = "SuiteRunner"
    if arguments.work_dir is not None:
        cfg.work_dir = str(arguments.work_dir)
    elif cfg.get("work_dir") is None:
        data = "demo" if arguments.demo else arguments.data.resolve().name if arguments.data else ""
        cfg.work_dir = str(Path("work_dirs") / "_".join(filter(None, (name, data))))
    cfg.experiment_name = Path(cfg.work_dir).resolve().name
    if arguments.seed is not None:
        cfg.randomness = dict(cfg.get("randomness", {}), seed=arguments.seed)
    cfg.launcher = arguments.launcher
    _check_writable(Path(cfg.work_dir))
    return cfg


def _descriptions(config: Path) -> Path:
    """The folder of backbone descriptions: beside the config, else this repository's."""
    beside = config.parent / "_base_" / "backbones"
    return beside if beside.is_dir() else Path(fvnet_mm.__file__).parents[1] / "configs" / "_base_" / "backbones"


def _check_writable(work_dir: Path) -> None:
    existing = next(folder for folder in (work_dir.absolute(), *work_dir.absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"the work dir {work_dir} cannot be written; choose another with --work-dir.")


def _read(path: Path, what: str) -> Config:
    if not path.is_file():
        raise UserError(f"{what} file {path} does not exist; `ls configs` shows those of the suite.")
    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is a program of its user's
        raise UserError(f"{what} file {path} cannot be read: {type(error).__name__}: {error}") from error


_OPTIONAL_KEYS = ("work_dir", "activation_checkpointing", "find_unused_parameters", "model_wrapper_cfg", "sync_bn")


def apply_overrides(cfg: Config, options: list[str]) -> None:
    """Applies ``KEY=VALUE`` words, read as mmdet reads them (mmengine's ``DictAction``).

    Raises:
        UserError: A word has no ``=``, or a key leads to where nothing can be set.
    """
    for option in options:
        if "=" not in option:
            raise UserError(f"--cfg-options takes KEY=VALUE and got {option!r}; write no space around the =.")
    if not options:
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    values = parser.parse_args(["--cfg-options", *options]).cfg_options
    for key, value in values.items():
        first = key.split(".")[0]
        if first not in cfg and first not in _OPTIONAL_KEYS:
            close = difflib.get_close_matches(first, [*cfg, *_OPTIONAL_KEYS], n=2)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(sorted(cfg))}."
            raise UserError(f"--cfg-options {key}: the config has no {first!r}; {hint}")
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            raise UserError(f"--cfg-options {key}={value} cannot be applied: {error}") from error


def plug_backbone(cfg: Config, backbone: str, folder: Path, name: str) -> str:
    """Puts another backbone into a config, and its channels into the neck.

    Args:
        cfg: A config of the suite: ``levels`` says which of the four stages its neck reads.
        backbone: Name of a description in ``folder``: a file with ``backbone`` (a model config with the
            ``out_indices`` of all four stages) and ``channels`` (of these stages).
        folder: Where descriptions are.
        name: The config's name, such as ``retinanet_fvnet_s_coco``.

    Returns:
        The name of what is run now, such as ``retinanet_mobilenet_v2_coco``.

    Raises:
        UserError: There is no such description, or the config has no place for it.
    """
    path = folder / f"{backbone}.py"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.py"))) or "none"
        raise UserError(f"there is no backbone {backbone!r} in {folder}; it has: {known}.")
    if "levels" not in cfg or "backbone_name" not in cfg:
        raise UserError(f"{cfg.filename} does not say which levels its neck reads; use a config of the suite.")
    description = _read(path, "backbone")
    stages = description.backbone.out_indices
    cfg.model.backbone = ConfigDict(description.backbone, out_indices=[stages[level] for level in cfg.levels])
    cfg.model.neck.in_channels = [description.channels[level] for level in cfg.levels]
    name = name.replace(cfg.backbone_name, backbone)
    cfg.backbone_name, cfg.backbone, cfg.channels = backbone, description.backbone, description.channels
    return name


def innermost_dataset(dataset: ConfigDict) -> ConfigDict:
    """The data set inside wrappers such as ``RepeatDataset``."""
    while "dataset" in dataset:
        dataset = dataset.dataset
    return dataset
