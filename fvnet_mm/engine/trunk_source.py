"""A digest of the code of a trunk of the user's own, of which neither a version nor the suite's commit tells."""

import hashlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path

from mmengine.registry import MODELS

from fvnet_mm.engine.building import is_users
from fvnet_mm.engine.config_file import class_of
from fvnet_mm.files import sha256_of


def source_digest(trunk: Mapping[str, object], scope: str | None) -> str | None:
    """The SHA-256 of what the class of a trunk is written in, the same wherever the files lie.

    That is the file of its module, and those of the user's other modules from which it takes classes, functions or
    whole modules, as a network of several files does.

    Args:
        trunk: Its config.
        scope: Default scope of the config, in which the class is looked for.

    Returns:
        None for a trunk of the suite or of an installed library, and where there is no such class or file.
    """
    own = MODELS.module_dict.get(trunk.get("type"))  # the suite's; spares reading the libraries
    kind = own or class_of(trunk, MODELS, scope)
    files = _own_files(kind.__module__) if kind is not None else set()
    if not files:
        return None
    return hashlib.sha256("".join(sorted(map(sha256_of, files))).encode()).hexdigest()


def _own_files(name: str) -> set[Path]:
    """The user's files in which a module, and the modules that it takes code from, are written."""
    found: set[Path] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        file = Path(getattr(module, "__file__", None) or "").resolve()
        if file in found or not file.is_file() or not is_users(name, file):
            continue
        found.add(file)
        for value in list(vars(module).values()):
            if inspect.ismodule(value):
                waiting.append(value.__name__)
            elif inspect.isclass(value) or inspect.isfunction(value):
                waiting.append(value.__module__)
    return found
