"""Importing mmpretrain beside a transformers that is too new for its multi-modal models.

mmpretrain 1.2 imports them wherever transformers 4.28 or newer is installed, and fails as a whole with "NoneType takes
no arguments" where that is one that no longer has what they are built from, such as 4.57 or 5. Nothing of the suite
needs them.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

DEPENDENCY = "mmpretrain.utils.dependency"
"""The module in which mmpretrain says whether it has multi-modal models."""

NEEDED = "apply_chunking_to_forward"
"""What mmpretrain takes from ``transformers.modeling_utils``, among things that left it at the same time."""


class DependencyLoader(SourceFileLoader):
    """Loads mmpretrain's module as it is, and takes back that there are multi-modal models if they cannot be imported.

    mmpretrain then does what it does without transformers: it puts into their place what asks for the installation.
    """

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if transformers_too_new():
            module.WITH_MULTIMODAL = False


class DependencyFinder(MetaPathFinder):
    """Finds ``mmpretrain.utils.dependency`` where it is, for :class:`DependencyLoader`, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != DEPENDENCY:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = DependencyLoader(spec.loader.name, spec.loader.path)
        return spec


def transformers_too_new() -> bool:
    """Whether the installed transformers is one that mmpretrain's multi-modal models cannot be imported with.

    Only looks: importing transformers takes seconds.
    """
    package = find_spec("transformers")
    if package is None or not package.submodule_search_locations:
        return False
    file = Path(package.submodule_search_locations[0], "modeling_utils.py")
    return file.is_file() and NEEDED not in file.read_text(encoding="utf-8")


def install_dependency_finder() -> None:
    """Puts one :class:`DependencyFinder` in front of ``sys.meta_path``; a second call changes nothing."""
    if not any(isinstance(finder, DependencyFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, DependencyFinder())
