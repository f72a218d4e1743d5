"""What scripts of this folder write from code or records: tables, whole files, parts of pages between two markers."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from fvnet_mm.errors import UserError
from fvnet_mm.files import write_text


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


def table(header: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; ``align`` has an l or an r for each column."""
    rule = ["---:" if side == "r" else "---" for side in align]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def update(page: Path, name: str, new: str, command: str, *, check: bool) -> None:
    """Writes the marked part of a page anew, or with ``check`` exits with 1 where it is stale.

    Args:
        page: File to bring up to date.
        name: Of the markers.
        new: What is to stand between them.
        command: What brings the page up to date, for the sentence that says so.
        check: Whether to look only.
    """
    try:
        current = with_marked(page.read_text(encoding="utf-8"), name, new)
    except ValueError as error:
        sys.exit(f"error: {page} {error}.")
    update_file(page, current, command, check=check, what=f"the part '{name}' of {page}")


def update_file(file: Path, new: str, command: str, *, check: bool, what: str | None = None) -> None:
    """Writes a file anew where it is stale, or with ``check`` exits with 1; ``what`` is its name in the sentence."""
    if file.exists() and file.read_text(encoding="utf-8") == new:
        return
    if check:
        sys.exit(f"error: {what or file} is stale; run: {command}")
    write_text(file, new)


def checks(description: str) -> bool:
    """Reads the command line of a script that knows ``--check`` and nothing else: whether it is to look only."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 where something is stale, and write nothing")
    return parser.parse_args().check


def update_parts(description: str, command: str, made: Callable[[], Mapping[tuple[Path, str], str]]) -> None:
    """Runs a script that makes parts of pages, by page and markers: see :func:`update` and :func:`checks`."""
    check = checks(description)
    try:
        parts = made()
    except UserError as error:
        sys.exit(f"error: {error}")
    for (page, name), text in parts.items():
        update(page, name, text, command, check=check)
