"""From a command line to one resolved config."""

import argparse
from pathlib import Path

from mmengine.config import Config, ConfigDict, DictAction

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
    if arguments.backbone:
        name = plug_backbone(cfg, arguments.backbone, arguments.config.parent / "_base_" / "backbones", name)
    apply_overrides(cfg, arguments.cfg_options)
    if arguments.work_dir is not None:
        cfg.work_dir = str(arguments.work_dir)
    elif cfg.get("work_dir") is None:
        data = "demo" if arguments.demo else arguments.data.resolve().name if arguments.data else ""
        cfg.work_dir = str(Path("work_dirs") / "_".join(filter(None, (name, data))))
    cfg.experiment_name = Path(cfg.work_dir).resolve().name
    if arguments.seed is not None:
        cfg.randomness = dict(cfg.get("randomness", {}), seed=arguments.seed)
    cfg.launcher = arguments.launcher
    return cfg


def _read(path: Path, what: str) -> Config:
    if not path.is_file():
        raise UserError(f"{what} file {path} does not exist; `ls configs` shows those of the suite.")
    try:
        return Config.fromfile(path)
    except (SyntaxError, KeyError, NameError, AttributeError, OSError) as error:
        raise UserError(f"{what} file {path} cannot be read: {type(error).__name__}: {error}") from error


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
    try:
        cfg.merge_from_dict(values)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--cfg-options {' '.join(options)} cannot be applied: {error}") from error


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
