"""SHA-256 of files and of folders of files."""

import hashlib
from pathlib import Path

_CHUNK = 1 << 20


def sha256_of(place: Path) -> str:
    """The SHA-256 of a file, or of the files of a folder, in hexadecimal digits.

    That of a folder is over a line ``name sha256`` for each file directly in it, in the order of the names.
    """
    if place.is_dir():
        files = sorted((path for path in place.iterdir() if path.is_file()), key=lambda path: path.name)
        lines = "".join(f"{path.name} {sha256_of(path)}\n" for path in files)
        return hashlib.sha256(lines.encode()).hexdigest()
    digest = hashlib.sha256()
    with place.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
