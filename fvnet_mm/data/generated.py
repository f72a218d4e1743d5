"""Folders of generated data: each made as a whole or not at all, kept while its settings stay, and made again after."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from fvnet_mm.errors import UserError


def write_generated(
    root: Path,
    settings_file: str,
    settings: Mapping[str, object],
    is_whole: Callable[[Path], bool],
    write: Callable[[Path], None],
) -> Path:
    """Have ``write`` fill the folder ``root``, unless a whole set with the same settings is there.

    Anything else that was generated into ``root`` before is replaced. The set is written beside ``root`` and
    renamed, so ``root`` is never half a set.

    Args:
        root: folder of the set; its parents are made.
        settings_file: name of the file in ``root`` that holds the settings; written last, it tells a folder
            that was generated from one that was not.
        settings: what decides the set's content, as JSON can hold it.
        is_whole: tells whether all files of a set with these settings are in a folder.
        write: fills a new, empty folder.

    Returns:
        ``root``.

    Raises:
        UserError: ``root`` exists and was not generated here.
    """
    root = Path(root)

    def is_there() -> bool:
        try:
            return json.loads((root / settings_file).read_text()) == settings and is_whole(root)
        except (OSError, ValueError):
            return False

    if is_there():
        return root
    if root.exists() and not (root / settings_file).is_file() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(
            f"{root} exists and is no generated data set ({settings_file} is missing), so it is left alone;"
            " name another folder, or empty this one."
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as temporary:
        new = Path(temporary, "set")
        new.mkdir()
        write(new)
        (new / settings_file).write_text(json.dumps(settings, indent=2) + "\n")
        with contextlib.suppress(FileNotFoundError):
            root.replace(Path(temporary, "old"))
        try:
            new.replace(root)
        except OSError:
            # Another process of the same run was faster; what it wrote is the same.
            if not is_there():
                raise
    return root
