"""Files: written so that nobody ever reads half of one, and told apart by their digests."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from fvnet_mm.errors import UserError


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


def write_text(path: Path, text: str) -> None:
    """Writes a text file, in UTF-8, at once or not at all: see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Makes a folder beside ``target``, and gives it that name at the end; after an exception it is gone.

    Raises:
        UserError: ``target`` exists.
    """
    if target.exists():
        raise UserError(f"{target} exists; remove it or name another folder.")
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial)
        raise


@contextlib.contextmanager
def written_or_said(what: str) -> Iterator[None]:
    """Turns the system's refusal to write into a sentence.

    Raises:
        UserError: The block raised an OSError; it names ``what`` could not be written, and why.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{what} cannot be written: {error.strerror or error}.") from error


@contextlib.contextmanager
def read_or_said(what: str) -> Iterator[None]:
    """Turns the system's refusal to read into a sentence.

    Raises:
        UserError: The block raised an OSError; it names ``what`` cannot be read, and why.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{what} cannot be read: {error.strerror or error}.") from error


def sha256_of(place: Path) -> str:
    """The SHA-256 of a file, or of the files of a folder, in hexadecimal digits.

    That of a folder is over a line ``name sha256`` for each file directly in it, in the order of the names. Hidden
    files and Thumbs.db do not count: file managers leave them where somebody has looked.
    """
    if place.is_dir():
        kept = (path for path in place.iterdir() if path.is_file() and not _of_file_managers(path.name))
        files = sorted(kept, key=lambda path: path.name)
        lines = "".join(f"{path.name} {sha256_of(path)}\n" for path in files)
        return hashlib.sha256(lines.encode()).hexdigest()
    digest = hashlib.sha256()
    with place.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _of_file_managers(name: str) -> bool:
    return name.startswith(".") or name == "Thumbs.db"


def remove_leftovers(folder: Path) -> list[Path]:
    """Removes the temporary files of :func:`replacing` that killed processes have left in a folder.

    Nobody may be writing there. Returns what was removed.
    """
    found = [path for path in folder.glob(".*") if _TEMPORARY.fullmatch(path.name)]
    for path in found:
        path.unlink()
    return found


_TEMPORARY = re.compile(r"\..+\.\d+\.\d+(\.\w+)?")

_CHUNK = 1 << 20
