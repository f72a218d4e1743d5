"""From a command line to one resolved config."""

import argparse
import copy
import os
from pathlib import Path

from mmengine.config import Config

from fvnet_mm.engine.config_file import apply_overrides, read_config
from fvnet_mm.engine.trunk import plug_backbone
from fvnet_mm.engine.weights import remove_pretrained
from fvnet_mm.errors import UserError


def load_config(arguments: argparse.Namespace) -> Config:
    """Reads the config that a command line names and applies the flags that trainings and tests share.

    Order: the file, then ``--backbone``, then ``--weights`` or ``--scratch``, then ``--cfg-options``, then the
    other flags.

    Raises:
        UserError: The file is missing, is no config or one of classes, the backbone has no description,
            ``--pretraining`` speaks of no ``--weights``, or an override cannot be applied.
    """
    cfg = read_config(arguments.config, "config")
    if Config._is_lazy_import(str(arguments.config)):
        raise UserError(
            f"config file {arguments.config} imports what it is made of (with read_base(), or from a library), which "
            "is mmengine's other dialect of configs, with classes for types; the tools need their names: write "
            "_base_ = [...] in the place of read_base(), and type='NAME' for each class."
        )
    if not isinstance(cfg.get("model"), dict):
        raise UserError(f"{arguments.config} has no model; give one of the configs, not a file that they are made of.")
    cfg.config_name = cfg.get("config_name") or arguments.config.stem
    if arguments.backbone is not None:
        plug_backbone(cfg, arguments.backbone)
    _choose_initial_weights(cfg, arguments)
    apply_overrides(cfg, arguments.cfg_options)
    cfg.runner_type = "SuiteRunner"
    if arguments.work_dir is not None:
        cfg.work_dir = str(arguments.work_dir)
    elif cfg.get("work_dir") is None:
        data = "demo" if arguments.demo else arguments.data.resolve().name if arguments.data else ""
        cfg.work_dir = str(Path("work_dirs") / "_".join(filter(None, (cfg.config_name, data))))
    cfg.experiment_name = Path(cfg.work_dir).resolve().name
    if arguments.seed is not None:
        cfg.randomness = dict(cfg.get("randomness", {}), seed=arguments.seed)
    cfg.launcher = arguments.launcher
    _check_writable(Path(cfg.work_dir))
    return cfg


def _choose_initial_weights(cfg: Config, arguments: argparse.Namespace) -> None:
    """Applies ``--weights`` with ``--pretraining``, and ``--scratch``; a demo starts from scratch, too.

    A config that says so leaves out the weights that are published of its trunk, and no others.
    """
    weights, pretraining = (getattr(arguments, flag, None) for flag in ("weights", "pretraining"))
    if pretraining is not None and weights is None:
        raise UserError(
            f"--pretraining {pretraining} says how a file's weights came about, and no --weights FILE names one; a "
            "config says it of its own weights in init_cfg, as distilled=True or False."
        )
    if weights is None and not (getattr(arguments, "scratch", False) or arguments.demo):
        if cfg.get("from_scratch", False):
            leave_out_published(cfg)
        return
    if weights is None:
        remove_pretrained(cfg.model)
    elif not isinstance(cfg.model.get("backbone"), dict):
        raise UserError(f"the model of {arguments.config} has no backbone that --weights could start from {weights}.")
    else:
        for part in (cfg.model, cfg.model.backbone):
            part.pop("pretrained", None)  # an older name of the same setting; libraries refuse both
        stated = {} if pretraining is None else dict(distilled=pretraining == "distilled")
        cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=str(weights), **stated)
    cfg.weights = None  # what the description says of its own weights holds for them alone
    cfg.load_from = None  # a whole model's weights would go over them


def leave_out_published(cfg: Config) -> None:
    """Takes the weights out of a config's trunk that come with its description.

    What the config names itself stays, such as a detector that was trained here and is fine-tuned now: ``from_scratch``
    stands in a base, and says how trunks are compared.
    """
    trunk, described = cfg.model.get("backbone"), cfg.get("backbone") or {}
    if isinstance(trunk, dict):
        own = {key: copy.deepcopy(value) for key, value in trunk.items() if value != described.get(key)}
        remove_pretrained(trunk)
        trunk.update(own)
    cfg.weights = None


def _check_writable(work_dir: Path) -> None:
    existing = next(folder for folder in (work_dir.absolute(), *work_dir.absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"the work dir {work_dir} cannot be written; choose another with --work-dir.")
