"""Ways to compute the same network faster: fused optimizers, memory layout, compilation, CUDA graphs.

None changes what is computed, but most change the order in which floating-point numbers are added up, as another GPU
does, too; so they are no part of a protocol, and stand in the dumped config.
"""

import copy
import os
import shutil
from importlib.util import find_spec

import torch
from mmengine.config import Config
from torch import nn

from fvnet_mm.errors import UserError

FUSED = ("Adam", "AdamW", "SGD")
"""Torch's optimizers that update all parameters in one pass, on CPUs and GPUs."""

PROGRAMS = 64
"""That one piece of code may be compiled to; torch's own limit, 8, ends in computing uncompiled from there on."""


def accelerate(cfg: Config, channels_last: bool, compiled: bool, graphs: bool = False) -> None:
    """Writes into a training's config how it is to be computed.

    The optimizer is fused where torch can and the config says nothing of it.

    Args:
        cfg: Changed in place.
        channels_last: Whether images and weights lie in memory pixel by pixel, not channel by channel.
        compiled: Whether backbone and neck are compiled.
        graphs: Whether they are replayed as CUDA graphs (:mod:`~.graphs`).

    Raises:
        UserError: Compilation is asked for and there is nothing to compile with, or graphs and there is no NVIDIA GPU,
            or both.
    """
    optimizer = cfg.optim_wrapper.get("optimizer") or {}
    if optimizer.get("type") in FUSED and not {"fused", "foreach", "capturable", "differentiable"} & optimizer.keys():
        optimizer["fused"] = True
    cfg.channels_last = bool(channels_last or cfg.get("channels_last", False))
    cfg.compile_trunk = bool(compiled or cfg.get("compile_trunk", False))
    require_compiler(cfg)
    cfg.graph_trunk = bool(graphs or cfg.get("graph_trunk", False))
    if cfg.graph_trunk and cfg.compile_trunk:
        raise UserError("--cuda-graphs and --compile (graph_trunk and compile_trunk in the config) exclude each other.")
    if cfg.graph_trunk and not torch.cuda.is_available():
        raise UserError("--cuda-graphs (graph_trunk in the config) needs an NVIDIA GPU and torch sees none.")


def without_fused(optim_wrapper: object, model: nn.Module) -> object:
    """The config of an ``optim_wrapper``, its optimizer not fused where a model has complex parameters.

    Torch fuses the steps of real ones only, and says so at the first step.
    """
    optimizer = optim_wrapper.get("optimizer") if isinstance(optim_wrapper, dict) else None
    fused = isinstance(optimizer, dict) and optimizer.get("fused")
    if not fused or not any(parameter.is_complex() for parameter in model.parameters()):
        return optim_wrapper
    changed = copy.deepcopy(optim_wrapper)
    changed["optimizer"]["fused"] = False
    return changed


def merge_groups(optimizer: torch.optim.Optimizer) -> None:
    """Joins the parameter groups of a new optimizer that are treated alike: the same steps, bit for bit, sooner.

    mmengine gives every parameter a group of its own where a config has rules for some, and an optimizer takes one
    pass per group: hundreds, over a few values each.
    """
    merged: list[dict[str, object]] = []
    for group in optimizer.param_groups:
        alike = next((other for other in merged if _options(other) == _options(group)), None)
        if alike is None:
            merged.append(dict(group))
        else:
            alike["params"] = [*alike["params"], *group["params"]]
    optimizer.param_groups[:] = merged


def _options(group: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in group.items() if key != "params"}


def accelerate_model(model: nn.Module, cfg: Config) -> nn.Module:
    """Lays out and compiles a built model as its config says; names of parameters stay what they are."""
    if cfg.get("channels_last"):
        model = model.to(memory_format=torch.channels_last)
    if cfg.get("compile_trunk"):
        # Blocks share their code, and each of their sizes, for training and for evaluation, is a program of it.
        limits = torch._dynamo.config  # by the name that torch 2.6 has, too
        limits.cache_size_limit = max(PROGRAMS, limits.cache_size_limit)
        # Heads and losses take branches that depend on the data, at which a compiler stops.
        for name in ("backbone", "neck"):
            part = getattr(model, name, None)
            if isinstance(part, nn.Module):
                part.compile()
    return model


def require_compiler(cfg: Config) -> None:
    """Makes certain that a config's trunk can be compiled if it is to be.

    Raises:
        UserError: There is no C++ compiler, or on a GPU no Triton.
    """
    if not cfg.get("compile_trunk"):
        return
    if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++", "cl")))):
        raise UserError(
            "--compile (compile_trunk in the config) needs a C++ compiler and there is none in PATH; install g++ or "
            "clang++, or leave it away."
        )
    if torch.cuda.is_available() and find_spec("triton") is None:
        raise UserError(
            "--compile (compile_trunk in the config) needs Triton on a GPU and it is not installed; "
            "`pip install triton` brings it."
        )
