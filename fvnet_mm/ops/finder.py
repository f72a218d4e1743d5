"""The import hook that answers for ``mmcv._ext`` where mmcv has no compiled operators."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

EXTENSION = "mmcv._ext"
"""The module that mmcv's operators are looked up in."""

_OPERATORS = Path(__file__).with_name("operators.py")


class FallbackFinder(MetaPathFinder):
    """Finds ``mmcv._ext`` in ``fvnet_mm/ops/operators.py`` and nothing else anywhere.

    The spec is an ordinary one with a source file behind it, so that ``importlib.util.find_spec`` and
    ``pkgutil.find_loader``, by which mmengine and mmcv ask whether operators exist, say yes without importing
    them.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns the spec of the operators' module for the name ``mmcv._ext``, None for any other name."""
        if fullname != EXTENSION:
            return None
        return spec_from_file_location(fullname, _OPERATORS)


def install_fallback() -> None:
    """Appends one :class:`FallbackFinder` to ``sys.meta_path``; a second call changes nothing.

    The hook goes last, behind the finders of installed packages, so that it is asked for ``mmcv._ext`` only
    after all of them said that there is no such module.
    """
    if not any(isinstance(finder, FallbackFinder) for finder in sys.meta_path):
        sys.meta_path.append(FallbackFinder())


def has_compiled_ops() -> bool:
    """Says whether mmcv's own compiled operators are installed, and hence in use.

    Only looks: neither mmcv nor PyTorch is imported by the question. An extension that is there but does not
    load (built against another PyTorch, say) counts as installed; importing it raises mmcv's own error.

    Returns:
        True if a finder other than the fallback knows ``mmcv._ext``; False without it, or without mmcv.
    """
    package = find_spec(EXTENSION.partition(".")[0])
    if package is None:
        return False
    return any(
        finder.find_spec(EXTENSION, package.submodule_search_locations) is not None
        for finder in sys.meta_path
        # Finders of the old protocol have no find_spec; the import system passes over them, too.
        if hasattr(finder, "find_spec") and not isinstance(finder, FallbackFinder)
    )
