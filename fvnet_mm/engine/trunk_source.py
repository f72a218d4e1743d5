"""A digest of the code of a trunk of the user's own, of which neither a version nor the suite's commit tells."""

import hashlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path

from mmengine.registry import MODELS

from fvnet_mm.engine.building import LIBRARIES, is_users
from fvnet_mm.engine.config_file import class_of
from fvnet_mm.files import sha256_of


def source_digest(trunk: Mapping[str, object], scope: str | None) -> str | None:
    """The SHA-256 of what the class of a trunk is written in, the same wherever the files lie.

    That is the file of its module, and those of its package's and the user's other modules from which it takes classes,
    functions or whole modules, as a network of several files does.

    Args:
        trunk: Its config.
        scope: Default scope of the config, in which the class is looked for.

    Returns:
        None for a trunk of the suite or of a library whose version a record states, and where there is no such class
        or file.
    """
    own = MODELS.module_dict.get(trunk.get("type"))  # the suite's; spares reading the libraries
    kind = own or class_of(trunk, MODELS, scope)
    files = _own_files(kind.__module__) if kind is not None else set()
    if not files:
        return None
    return hashlib.sha256("".join(sorted(map(sha256_of, files))).encode()).hexdigest()


def _own_files(name: str) -> set[Path]:
    """Files in which a module and those that it takes code from are written: the user's, and those of its own package.

    Which may be installed: of such a package no record states a version.
    """
    package, found, waiting = name.partition(".")[0], set[Path](), [name]
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        file = Path(getattr(module, "__file__", None) or "").resolve()
        if file in found or not file.is_file():
            continue
        if not is_users(name, file) and (package in LIBRARIES or name.partition(".")[0] != package):
            continue
        found.add(file)
        for value in list(vars(module).values()):
            if inspect.ismodule(value):
                waiting.append(value.__name__)
            elif inspect.isclass(value) or inspect.isfunction(value):
                waiting.append(value.__module__)
    return found
