"""The part of a page between two markers, which a script of this folder writes from code or records."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from fvnet_mm.files import replacing


def with_marked(text: str, name: str, new: str) -> str:
    """``text`` with what is between ``<!-- name:begin -->`` and ``<!-- name:end -->`` replaced.

    Raises:
        ValueError: There is not exactly one pair of markers.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    replaced, count = re.subn(f"{begin}.*?{end}", lambda _: f"{begin}\n{new}\n{end}", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"has {count} pairs of markers {begin} ... {end} where one is needed")
    return replaced


def update(page: Path, name: str, new: str, command: str, *, check: bool) -> None:
    """Writes the marked part of a page anew, or with ``check`` exits with 1 where it is stale.

    Args:
        page: File to bring up to date.
        name: Of the markers.
        new: What is to stand between them.
        command: What brings the page up to date, for the sentence that says so.
        check: Whether to look only.
    """
    old = page.read_text(encoding="utf-8")
    try:
        current = with_marked(old, name, new)
    except ValueError as error:
        sys.exit(f"error: {page} {error}.")
    if current == old:
        return
    if check:
        sys.exit(f"error: the part '{name}' of {page} is stale; run: {command}")
    with replacing(page) as temporary:
        temporary.write_text(current, encoding="utf-8")
