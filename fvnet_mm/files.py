"""Writing files so that nobody ever reads half of one."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name in the folder of ``path``, and rename that file to ``path`` at the end.

    The folder is made if it does not exist. After an exception ``path`` is as it was, and the temporary file
    is gone.

    Yields:
        A name with the suffix of ``path``, to which the block writes the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.{threading.get_ident()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> list[Path]:
    """Removes the temporary files of :func:`replacing` that killed processes have left in a folder.

    Nobody may be writing there. Returns what was removed.
    """
    found = [path for path in folder.glob(".*") if _TEMPORARY.fullmatch(path.name)]
    for path in found:
        path.unlink()
    return found


_TEMPORARY = re.compile(r"\..+\.\d+\.\d+(\.\w+)?")
