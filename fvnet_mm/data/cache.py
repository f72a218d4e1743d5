"""What is remembered of files between runs: where it is kept, and when it no longer holds."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs

Stamp = tuple[int, int, int]


def file_stamp(path: Path) -> Stamp:
    """Size, time of change of the content and of the entry: one of them differs once a file was written again."""
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def cache_file(path: Path, kind: str, suffix: str) -> Path:
    """Where the user's cache folder keeps something of a kind about a file or folder."""
    digest = hashlib.sha256(os.fsencode(Path(path).resolve())).hexdigest()[:16]
    return platformdirs.user_cache_path("fvnet_mm") / kind / f"{digest}{suffix}"
