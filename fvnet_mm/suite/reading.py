"""Reading a suite's YAML file; whatever is wrong with it ends in one sentence with the closest right name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from fvnet_mm.errors import UserError
from fvnet_mm.places import CONFIGS, DESCRIPTIONS, ROOT
from fvnet_mm.records.parts import first_faults
from fvnet_mm.suite.jobs import DATA_SETS, DESCRIBED, Job, expand
from fvnet_mm.suite.schema import DEMO, OWN, Match, Override, Run, Settings, SuiteFile

_LARGEST = 1 << 20
"""Bytes of a file that is read; a suite of thousands of runs has less."""

_ADDRESS = re.compile(r"[a-z][\w+-]*://")
_TIMM = "timm:"
_READING_FAILS = (yaml.YAMLError, RecursionError, ArithmeticError, LookupError, ValueError, TypeError, AttributeError)
"""What PyYAML raises; the last five by its constructors, on a tag that does not fit its value (``!!bool maybe``)."""

_KEYS = {"match": Match, "exclude": Match, "overrides": Override, "runs": Run}


@dataclass(frozen=True)
class Suite:
    """A suite that was read and checked: its name, the folder of its work dirs, and its jobs."""

    name: str
    work_dir: Path
    jobs: tuple[Job, ...]


def read_suite(path: Path, work_dir: Path | None = None) -> Suite:
    """Reads a suite and checks all that it names.

    Args:
        path: YAML file.
        work_dir: Folder of the jobs' work dirs, in place of what the file says.

    Raises:
        UserError: It cannot be read, is no YAML, has an unknown key or a value of the wrong kind, names a backbone,
            framework or file that is not there, or asks for a training twice.
    """
    try:
        file = SuiteFile.model_validate(_parse(path))
    except ValidationError as error:
        raise UserError(f"{path}: {_fault(error)}.") from error
    try:
        file = _checked(file)
        name = file.name or re.sub(r"[^\w.-]", "_", path.stem)
        folder = (work_dir or file.work_dir or Path("work_dirs", name)).absolute()
        return Suite(name, folder, expand(file, folder))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which would take the last of two equal keys without a word.

    Nor does it merge mappings (``<<``): references to merged references grow without bound.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            merges = key.tag == "tag:yaml.org,2002:merge"
            if merges or key.value in seen:
                problem = "<< is not taken here, write it out" if merges else f"the key {key.value!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parse(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{path} has more than {_LARGEST >> 20} MiB, so it is no suite.")
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a SafeLoader
    except OSError as error:
        close = _closest(path.name, [other.name for other in path.parent.glob("*.y*ml")])
        raise UserError(f"the suite {path} cannot be read: {error.strerror}{close}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8, so it is no suite.") from error
    except yaml.MarkedYAMLError as error:
        where = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise UserError(f"{path} is no YAML: {error.problem or error.context}{where}.") from error
    except _READING_FAILS as error:
        raise UserError(f"{path} is no YAML that can be read: {type(error).__name__}: {error!s:.100}.") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path} is no suite: it needs keys such as backbones, frameworks and seeds, or runs.")
    return content


def _fault(error: ValidationError) -> str:
    """The first fault in words; of an unknown key with the closest right name."""
    first = error.errors(include_url=False)[0]
    if first["type"] != "extra_forbidden":
        return first_faults(error)
    *above, key = first["loc"]
    part = next((_KEYS[step] for step in reversed(above) if step in _KEYS), SuiteFile)
    return f"{'.'.join(map(str, first['loc']))} is no key of a suite{_closest(str(key), part.model_fields)}"


def _checked(file: SuiteFile) -> SuiteFile:
    """A suite whose names are known and whose files exist, the files by their absolute paths."""
    data = _distinct("data", tuple(_data(value) for value in file.data))
    backbones = _distinct("backbones", tuple(_backbone(value) for value in file.backbones))
    for framework in _distinct("frameworks", file.frameworks):
        _check_name("framework", framework, DATA_SETS)
    _distinct("seeds", file.seeds)
    grid = dict(backbones=backbones, frameworks=file.frameworks, data=data, seeds=file.seeds)
    return file.model_copy(
        update=_weights(file)
        | dict(
            backbones=backbones,
            data=data,
            exclude=tuple(_match(f"exclude.{i}", match, grid) for i, match in enumerate(file.exclude)),
            overrides=tuple(
                override.model_copy(
                    update=_weights(override) | dict(match=_match(f"overrides.{i}.match", override.match, grid))
                )
                for i, override in enumerate(file.overrides)
            ),
            runs=tuple(_run(run) for run in file.runs),
        )
    )


def _match(place: str, match: Match, grid: dict[str, Collection[object]]) -> Match:
    resolved = {
        key: tuple(map(resolve, getattr(match, key)))
        for key, resolve in (("backbones", _as_file), ("data", _data))
        if getattr(match, key) is not None
    }
    match = match.model_copy(update=resolved)
    for key, known in grid.items():
        for value in getattr(match, key) or ():
            if value not in known:
                close = _closest(str(value), map(str, known))
                raise UserError(f"{place}: {value!r} is none of the suite's {key}{close}.")
    return match


def _run(run: Run) -> Run:
    config = next((path for path in (run.config, ROOT / run.config) if path.is_file()), None)
    if config is None:
        close = _closest(run.config.name, [path.name for path in CONFIGS.glob("*.py")])
        raise UserError(f"the config {run.config} does not exist{close}.")
    backbone = None if run.backbone is None else _backbone(run.backbone)
    return run.model_copy(
        update=_weights(run) | dict(config=config.absolute(), backbone=backbone, data=_data(run.data))
    )


def _weights(settings: Settings) -> dict[str, str]:
    if settings.weights is None or _ADDRESS.match(settings.weights):
        return {}
    path = Path(settings.weights).expanduser()
    if not path.is_file():
        raise UserError(f"the weights {path} do not exist{_closest(path.name, _beside(path))}.")
    return dict(weights=str(path.absolute()))


def _data(value: str) -> str:
    if value in (DEMO, OWN):
        return value
    path = Path(value).expanduser()
    if not path.is_dir():
        close = _closest(path.name, [DEMO, OWN, *_beside(path)])
        raise UserError(f"there is no data in {value}: name a folder, {DEMO} or {OWN}{close}.")
    return str(path.resolve())


def _beside(path: Path) -> list[str]:
    return [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []


def _backbone(value: str) -> str:
    """A backbone that there is: a name, or the absolute path of a description."""
    value = _as_file(value)
    if value.endswith(DESCRIBED):
        path = Path(value)
        if not path.is_file():
            raise UserError(f"the backbone {path} does not exist{_closest(path.name, _beside(path))}.")
    elif value.startswith(_TIMM):
        import timm

        model = value.removeprefix(_TIMM)
        if not timm.is_model(model.partition(".")[0]):
            raise UserError(f"timm has no model {model!r}{_closest(model, timm.list_models())}.")
    else:
        _check_name("backbone", value, [path.stem for path in (CONFIGS / DESCRIPTIONS).glob(f"*{DESCRIBED}")])
    return value


def _as_file(backbone: str) -> str:
    return str(Path(backbone).expanduser().absolute()) if backbone.endswith(DESCRIBED) else backbone


def _check_name(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        close = _closest(name, known) or f"; there are {', '.join(sorted(known))}"
        raise UserError(f"there is no {what} {name!r}{close}.")


def _distinct(what: str, values: tuple) -> tuple:
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise UserError(f"{what} lists {twice!r} twice.")
    return values


def _closest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name[:200], list(known), n=1, cutoff=0.5)
    return f"; the closest is {close[0]}" if close else ""
