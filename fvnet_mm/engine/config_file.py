"""Reading config files and changing what they say."""

import argparse
import difflib
import json
import shlex
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import mmengine.config.config as config_module
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.registry import Registry

from fvnet_mm.engine.building import in_words
from fvnet_mm.errors import UserError
from fvnet_mm.records.words import dataset_layers


class FormattedConfig(Config):
    """A config that is brought into form once, however often its text is asked for.

    mmengine's runner asks at its start, for the log, for its visualizers, and for every checkpoint, and every time yapf
    takes as long as some iterations.
    """

    @property
    def pretty_text(self) -> str:
        """The config as Python."""
        content = repr(self.to_dict())
        if content not in _texts:
            _texts.clear()
            _texts[content] = super().pretty_text
        return _texts[content]


_texts: dict[str, str] = {}  # the latest one, by what the config holds; a runner has a copy of the config


def read_config(path: Path, what: str) -> Config:
    """Reads a config file.

    Raises:
        UserError: It is missing, or reading it fails; ``what`` names it in the sentence.
    """
    if not path.is_file():
        flag = " --backbones" if what == "backbone" else ""
        raise UserError(f"{what} file {path} does not exist; `python -m fvnet_mm.list{flag}` shows those of the suite.")
    try:
        with _bases_found_at_once():
            cfg = Config.fromfile(path, import_custom_modules=False)
    except Exception as error:  # a config is a program of its user's
        raise UserError(f"{what} file {path} cannot be read: {type(error).__name__}: {error}") from error
    import_custom_modules(cfg, f"{what} file {path}", path.parent)
    formatted = FormattedConfig.__new__(FormattedConfig)
    formatted.__setstate__(cfg.__getstate__())
    return formatted


@contextmanager
def _bases_found_at_once() -> Iterator[None]:
    """Lets mmengine find ``mmdet::_base_/...`` without reading the library's hundred metafiles first.

    It looks there for a model of that name, finds none, and takes the file of that name in the library: half a second
    for each base, most of what reading a config took.
    """
    by_metafile = config_module._get_external_cfg_path

    def find(package: str, name: str) -> str:
        if name.startswith("_base_/"):
            raise ValueError("no metafile has a base; mmengine looks for a file now")
        return by_metafile(package, name)

    config_module._get_external_cfg_path = find
    try:
        yield
    finally:
        config_module._get_external_cfg_path = by_metafile


def import_custom_modules(cfg: Config, where: str, folder: Path) -> None:
    """Imports the modules that a config's ``custom_imports`` names, which register what their user wrote.

    They are looked for on Python's path alone, not beside the config: what a run leaves must be readable from anywhere,
    with the same setting for the suite's tools and the libraries' own.

    Args:
        cfg: Its ``custom_imports`` are ``dict(imports=[...], allow_failed_imports=False)``, or are missing.
        where: What has set them, for the sentence.
        folder: Where else a module may lie; if it does, the sentence says what to do.

    Raises:
        UserError: They are something else, or a module is not found or fails.
    """
    wanted = cfg.get("custom_imports") or {}
    names = wanted.get("imports", []) if isinstance(wanted, dict) else None
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where}: custom_imports must be dict(imports=['MODULE', ...]) and is {wanted}.")
    for name in names:
        try:
            import_module(name)
        except Exception as error:  # a module is a program of its user's
            if isinstance(error, ImportError) and wanted.get("allow_failed_imports", False):
                warnings.warn(f"{where}: {name} of custom_imports failed to import and is left out", stacklevel=2)
                continue
            if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
                raise UserError(
                    f"{where}: custom_imports names {name!r}, which Python does not find; put its folder on Python's "
                    f"path (PYTHONPATH={_folder_of(error.name, folder)} before the command), or install it with pip."
                ) from error
            raise UserError(
                f"{where}: {name!r} of custom_imports cannot be imported: {type(error).__name__}: {in_words(error)}"
            ) from error


def _folder_of(module: str, beside: Path) -> str:
    """The folder of a module if it lies beside a config or in the current directory, else a placeholder."""
    inner = Path(*module.split("."))
    for folder in (beside.absolute(), Path.cwd()):
        if (folder / inner).with_suffix(".py").is_file() or (folder / inner).is_dir():
            return shlex.quote(str(folder))
    return "FOLDER"


_OPTIONAL_KEYS = ("work_dir", "activation_checkpointing", "find_unused_parameters", "model_wrapper_cfg", "sync_bn")


def apply_overrides(cfg: Config, options: list[str]) -> None:
    """Applies ``KEY=VALUE`` words.

    Values are read as mmdet reads them (mmengine's ``DictAction``), and as JSON where they are dictionaries or lists of
    them: ``model.backbone.unit=["SiLUUnit",{"type":"FTFU","dt":4}]``.

    Raises:
        UserError: A word has no ``=``, a bracket is not closed, a dictionary is no JSON, a key leads to where nothing
            can be set, or ``custom_imports`` name what cannot be imported.
    """
    values: dict[str, object] = {}
    for option in options:
        if "=" not in option:
            raise UserError(f"--cfg-options takes KEY=VALUE and got {option!r}; write no space around the =.")
        values |= _read_option(option)
    for key, value in values.items():
        first = key.split(".")[0]
        if first not in cfg and first not in _OPTIONAL_KEYS:
            close = difflib.get_close_matches(first, [*cfg, *_OPTIONAL_KEYS], n=2)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(sorted(cfg))}."
            raise UserError(f"--cfg-options {key}: the config has no {first!r}; {hint}")
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            reason = _missing_entry(cfg, key) or error
            raise UserError(f"--cfg-options {key}={value} cannot be applied: {reason}") from error
    if any(key.split(".")[0] == "custom_imports" for key in values):
        import_custom_modules(cfg, "--cfg-options custom_imports", Path.cwd())


def _missing_entry(cfg: Config, key: str) -> str | None:
    """Which list of a config has not the entry that a key leads through; None where that is not what is wrong."""
    part: object = cfg
    words = key.split(".")
    for depth, word in enumerate(words):
        if isinstance(part, list | tuple) and word.isdecimal():
            if int(word) >= len(part):
                return f"{'.'.join(words[:depth])} has {len(part)} entries, counted from 0."
            part = part[int(word)]
        else:
            part = part.get(word) if isinstance(part, Config | dict) else None
    return None


def _read_option(option: str) -> dict[str, object]:
    """The key and the value of a ``KEY=VALUE`` word."""
    key, value = option.split("=", 1)
    if value.startswith(("{", "[", "(")) and "{" in value:
        try:
            return {key: json.loads(value)}
        except json.JSONDecodeError as error:
            raise UserError(
                f'--cfg-options {option}: dictionaries are written as JSON, with "double quotes" around names and '
                f"the whole in single ones for the shell, and this is none: {error}."
            ) from error
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    try:
        return parser.parse_args(["--cfg-options", option]).cfg_options
    except AssertionError as error:  # mmengine's, of a bracket that is not closed
        raise UserError(f"--cfg-options {option} cannot be read: {error}") from error


def missing_part(cfg: Config, *parts: str) -> str | None:
    """The first of some parts of a config, such as 'optim_wrapper.optimizer', that it says nothing of, or None."""
    for part in parts:
        found = cfg
        for key in part.split("."):
            found = found.get(key) if isinstance(found, Config | dict) else None
        if not isinstance(found, dict | list | tuple):
            return part
    return None


def innermost_dataset(dataset: ConfigDict) -> ConfigDict:
    """The data set inside wrappers such as ``RepeatDataset``.

    Raises:
        UserError: There are several.
    """
    dataset = dataset_layers(dataset)[-1]
    if "datasets" in dataset:
        raise UserError(
            f"the config joins {len(dataset.datasets)} data sets ({dataset.type}), and one is checked and replaced; "
            "write a single data set in their place."
        )
    return dataset


def class_of(settings: Mapping[str, object], registry: Registry, scope: str | None) -> object | None:
    """The class that a part of a config names, looked for as in the default scope; None if no library has it."""
    kind = settings.get("type")
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(scope) as scoped:
        return scoped.get(kind)


def replace_sync_batch_norm(config: ConfigDict, kind: str) -> bool:
    """Turns every SyncBN of a model config into another norm, such as BN; says whether there was one."""
    found = False
    for value in config.values():
        for part in value if isinstance(value, list | tuple) else [value]:
            if isinstance(part, dict):
                if part.get("type") == "SyncBN":
                    part["type"], found = kind, True
                found |= replace_sync_batch_norm(part, kind)
    return found
