"""Lists of files, a line each, in the form that mmseg and mmpretrain read."""

from __future__ import annotations

from pathlib import Path

from fvnet_mm.errors import UserError


def list_line(name: str, folder: Path, after: str = "") -> str:
    """The line of a file in a list; the libraries strip lines, and would look for another name.

    Args:
        name: of the file, relative to ``folder``, or its stem.
        folder: where it is.
        after: what follows the name in its line.

    Raises:
        UserError: the file would not be found by its line.
    """
    line = f"{name}{after}"
    try:
        line.encode()
        sound = line == line.strip() and "\n" not in line and "\r" not in line
    except UnicodeEncodeError:
        sound = False
    if not sound:
        raise UserError(
            f"{name!r} in {folder} cannot stand in a list of images (it begins or ends with a space, or has a line"
            " break or bytes that are no UTF-8); rename it, or mend the bad images."
        )
    return f"{line}\n"
