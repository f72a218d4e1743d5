"""Records of trainings by stock mmdet, mmseg or mmpretrain, from the log and the config in their work dirs."""

import ast
import itertools
import json
import math
import os
import re
from pathlib import Path
from typing import Literal

from fvnet_mm.errors import UserError
from fvnet_mm.files import read_or_said, sha256_of
from fvnet_mm.records import Backbone, Config, Data, Environment, Evaluation, Protocol, Result, RunRecord
from fvnet_mm.records.from_config import fields_of_test, fields_of_training, framework_of, task_of, trunk_name
from fvnet_mm.records.words import dataset_layers, name_of
from fvnet_mm.report.metrics import in_percent
from fvnet_mm.report.scalars import History, read_scalars

_SETTINGS = ("default_scope", "model", "train_dataloader", "val_dataloader", "train_cfg", "optim_wrapper")

_LIBRARIES = {
    "PyTorch": "torch",
    "TorchVision": "torchvision",
    "MMEngine": "mmengine",
    "Python": "python",
}
"""What mmengine's log calls them, and their distributions."""


def import_work_dir(folder: Path, beside: Path | None = None) -> RunRecord:
    """The record of a training by stock mmdet 3, mmseg 1 or mmpretrain 1, marked 'imported'.

    Read are the dumped config, which is parsed and never run, the metrics of ``*/vis_data/scalars.json``, and the
    environment that the newest log begins with. What they do not say is None: the data's fingerprint, whether norms
    were trained where only the trunk's class decides it, what its weights were pretrained with.

    Args:
        folder: The work dir.
        beside: Folder that the record will lie in, from which the config's path leads; None for the work dir.

    Raises:
        UserError: There is no log or no config in the folder, one cannot be read or says what none would, or nothing
            was evaluated.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; name the work dir of a training.")
    logs = sorted(folder.glob("*/vis_data/scalars.json"))
    if not logs:
        raise UserError(
            f"{folder} holds no log of mmengine (*/vis_data/scalars.json); name the work dir of a training."
        )
    file, name = _config_file(folder, logs[-1].parent)
    settings = parse_config(file)
    missing = [name for name in _SETTINGS if not settings.get(name)]
    if missing:
        raise UserError(f"the config {file} says nothing of {', '.join(missing)}, as a training's would.")
    history = read_scalars(logs)
    facts = _facts(logs[-1].parents[1])
    world_size = int(facts["GPU number"]) if "GPU number" in facts else None
    seed = facts.get("seed", "")
    try:
        protocol = Protocol(**_fields(settings, world_size))
        unit, per_unit = _unit(history, settings, protocol, logs[-1].parents[1])
        evaluations = _evaluations(history, per_unit)
        if not evaluations:
            raise UserError(f"nothing was evaluated in {folder}: its logs hold no AP, mIoU or accuracy.")
        model, trunk = settings["model"], settings["model"].get("backbone") or {}
        return RunRecord(
            origin="imported",
            status="finished" if _is_whole(protocol, unit, evaluations[-1].step) else "running",
            task=task_of(settings),
            framework=framework_of(model),
            config=Config(name=name, file=_path_from(beside or folder, file), sha256=sha256_of(file)),
            backbone=Backbone(
                name=trunk_name(settings),
                type=name_of(trunk) or None,
                arguments=json.loads(json.dumps({k: v for k, v in trunk.items() if k not in ("type", "init_cfg")})),
            ),
            seed=int(seed) if seed.isdecimal() else None,
            protocol=protocol,
            data=_data(settings),
            environment=Environment(
                versions={name: facts[key].split()[0] for key, name in _LIBRARIES.items() if key in facts},
                device=next((facts[key] for key in facts if re.match(r"GPU \d", key)), None),
                world_size=world_size,
            ),
            unit=unit,
            evaluations=evaluations,
            result=Result(metrics=evaluations[-1].metrics),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"the config {file} is not that of a training by mmdet 3, mmseg 1 or mmpretrain 1 "
            f"({type(error).__name__}: {str(error).splitlines()[0]})."
        ) from error


def parse_config(file: Path) -> dict[str, object]:
    """The settings of a config as mmengine dumps it: assignments of literals and of ``dict(...)``. Runs no code.

    Raises:
        UserError: It cannot be read or is no Python, or it has bases or computed values, so is not a dump.
    """
    try:
        module = ast.parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the config {file} cannot be read: {error.strerror}.") from error
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UserError(f"the config {file} is no Python file: {error}.") from error
    settings: dict[str, object] = {}
    for statement in module.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                try:
                    settings[name] = _literal(value)
                except (ValueError, TypeError, RecursionError):
                    raise UserError(
                        f"{file} is not a dumped config: line {statement.lineno} computes {name!r}, and a config of "
                        "somebody else is never run; take the whole one that mmengine writes into a work dir."
                    ) from None
            case _:
                raise UserError(
                    f"{file} is not a dumped config: line {statement.lineno} is no assignment; take the whole one that "
                    "mmengine writes into a work dir."
                )
    if "_base_" in settings:
        raise UserError(f"{file} has bases; take the whole config that mmengine writes into a work dir.")
    return settings


def _literal(node: ast.expr) -> object:
    match node:
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords) if all(item.arg for item in keywords):
            return {item.arg: _literal(item.value) for item in keywords}
        case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str(text))], keywords=[]):
            return float(text)  # 'inf' and its like, which have no literal
        case ast.Dict(keys=keys, values=values) if all(keys):
            return {ast.literal_eval(key): _literal(value) for key, value in zip(keys, values, strict=True)}
        case ast.List(elts=items):
            return [_literal(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_literal(item) for item in items)
        case _:
            return ast.literal_eval(node)


def _config_file(folder: Path, vis_data: Path) -> tuple[Path, str]:
    """The dump of the newest training's config, and its name.

    That is the work dir's own if it is the only one there and that of this training still: a test in the work dir
    writes its config over it, with the checkpoint as ``load_from``.
    """
    dumps, of_training = list(folder.glob("*.py")), vis_data / "config.py"
    name = dumps[0].stem if len(dumps) == 1 else folder.resolve().name
    if len(dumps) == 1 and (not of_training.is_file() or sha256_of(of_training) == sha256_of(dumps[0])):
        return dumps[0], name
    if of_training.is_file():
        return of_training, name
    raise UserError(
        f"{folder} has {len(dumps) or 'no'} dumped configs (*.py) and none in {vis_data.relative_to(folder)}; "
        "leave the one of the training there."
    )


def _path_from(folder: Path, file: Path) -> str:
    """The way from a folder, which need not exist yet, to a file; links to folders would lead ``..`` astray."""
    return Path(os.path.relpath(file.parent.resolve() / file.name, folder.resolve())).as_posix()


def _fields(settings: dict[str, object], world_size: int | None) -> dict[str, object]:
    trunk = settings["model"].get("backbone") or {}
    return (
        fields_of_test(settings, "val_dataloader")
        | fields_of_training(settings, world_size)
        | dict(norm_eval=trunk.get("norm_eval"), frozen_stages=trunk.get("frozen_stages"))
        # Of a resumed training, load_from is the checkpoint to go on from.
        | dict(pretraining="fine-tuned" if settings.get("load_from") and not settings.get("resume") else None)
    )


def _unit(
    history: History, settings: dict[str, object], protocol: Protocol, run: Path
) -> tuple[Literal["epoch", "step"], int]:
    """What evaluations are counted in, the length's unit if possible, and how many of the logged steps make one.

    A training of epochs may log iterations, as mmseg's configs do. How many make an epoch its evaluations tell, or the
    text log.
    """
    if history.by_epoch and protocol.length_unit != "step":
        return "epoch", 1
    if protocol.length_unit == "epoch" and protocol.length:
        each = _steps_an_epoch(history, settings["train_cfg"], protocol.length)
        if each := each or (_iterations(run) or 0) // protocol.length:
            return "epoch", each
    return "step", settings["optim_wrapper"].get("accumulative_counts") or 1


def _steps_an_epoch(history: History, loop: dict[str, object], length: int) -> int | None:
    """How many logged steps an epoch has, by the epochs after which the loop evaluates; None where they do not tell.

    A single evaluation does not, since it may be the first that is left of a log, unless there is to be one alone.
    """
    steps = [evaluation.step for evaluation in history.evaluations]
    interval = loop.get("val_interval", 1)
    if interval < 1 or loop.get("dynamic_intervals"):
        return None
    every = range(max(loop.get("val_begin", 1), 1), length + 1)
    evaluated = (epoch for epoch in every if epoch % interval == 0 or epoch == length)
    epochs = list(itertools.islice(evaluated, len(steps)))
    if len(epochs) < len(steps) or (len(steps) < 2 and epochs != [length]):
        return None
    each, *others = {divmod(step, epoch) for step, epoch in zip(steps, epochs, strict=True)}
    return each[0] if not others and each[1] == 0 else None


def _iterations(run: Path) -> int | None:
    """The length of a training in iterations, which a log that counts them states beside each; None without one."""
    for log in sorted(run.glob("*.log")):
        with read_or_said(f"the log {log}"):
            stated = re.search(r"Iter\(train\) +\[ *\d+/(\d+)\]", log.read_text(encoding="utf-8", errors="replace"))
        if stated is not None:
            return int(stated[1])
    return None


def _is_whole(protocol: Protocol, unit: str, step: int) -> bool:
    return protocol.length is None or (unit == protocol.length_unit and step == protocol.length)


def _evaluations(history: History, per_unit: int) -> tuple[Evaluation, ...]:
    found = [(item.step // per_unit, in_percent(item.metrics)) for item in history.evaluations]
    return tuple(
        Evaluation(step=step, metrics={name: round(value, 4) for name, value in metrics.items()})
        for step, metrics in found
        if metrics and all(map(math.isfinite, metrics.values()))
    )


def _data(settings: dict[str, object]) -> Data | None:
    dataset = dataset_layers(settings["val_dataloader"]["dataset"])[-1]
    classes = (dataset.get("metainfo") or {}).get("classes") or ()
    root = dataset.get("data_root")
    inside = [dataset.get("ann_file"), *_texts(dataset.get("data_prefix"))]  # annotations/FILE or images/SPLIT below it
    places = [Path(root)] if root else [parent for text in inside if text for parent in Path(text).parents[1:2]]
    label = next((place.name for place in places if place.name), None)
    return Data(label=label, classes=classes) if label else None


def _texts(value: object) -> list[str]:
    return [value] if isinstance(value, str) else list(value.values()) if isinstance(value, dict) else []


def _facts(run: Path) -> dict[str, str]:
    """The 'name: value' lines with which mmengine's log begins, up to the config.

    Raises:
        UserError: The log cannot be read, one of those that are read here is empty, or the number of GPUs is none.
    """
    logs = sorted(run.glob("*.log"))
    if not logs:
        return {}
    with read_or_said(f"the log {logs[0]}"):
        head = logs[0].read_text(encoding="utf-8", errors="replace").partition("Config:\n")[0]
    facts = {name: value.strip() for name, value in re.findall(r"^    ([A-Za-z][\w ,]*):(.*)$", head, re.MULTILINE)}
    for name in (*_LIBRARIES, "GPU number", "seed"):
        if not facts.get(name, name):
            raise UserError(f"the log {logs[0]} says nothing behind '{name}:'; copy it again, or remove that line.")
    number = facts.get("GPU number", "0")
    if not number.isdecimal():
        raise UserError(f"the log {logs[0]} says 'GPU number: {number}', which is no number; remove that line.")
    return {name: value for name, value in facts.items() if value}
