"""The leaderboard's files: written whole, one after the other, or compared with those that are there."""

from __future__ import annotations

from pathlib import Path

from fvnet_mm.errors import UserError
from fvnet_mm.files import replacing
from fvnet_mm.report.leaderboard.csv_file import render_csv
from fvnet_mm.report.leaderboard.latex import render_latex
from fvnet_mm.report.leaderboard.markdown import render_markdown
from fvnet_mm.report.leaderboard.model import Leaderboard

PAGE = "index.html"
FIGURES = "figures"


def render(leaderboard: Leaderboard, html: bool = True) -> dict[str, str]:
    """The text of each file by its name. Equal leaderboards give equal text: no date, no path of a machine.

    Args:
        leaderboard: What to write.
        html: Whether to include the page for a browser.
    """
    texts = {
        "leaderboard.json": leaderboard.model_dump_json(indent=1) + "\n",
        "leaderboard.csv": render_csv(leaderboard),
        "leaderboard.md": render_markdown(leaderboard),
        "leaderboard.tex": render_latex(leaderboard),
    }
    if html:
        from fvnet_mm.report.leaderboard.page import render_page  # brings the libraries of the plots

        texts[PAGE] = render_page(leaderboard)
    return texts


def write_leaderboard(leaderboard: Leaderboard, folder: Path, html: bool = True, figures: bool = True) -> list[Path]:
    """Writes all files into a folder and returns their paths.

    Args:
        leaderboard: What to write.
        folder: Made if it does not exist.
        html: Whether to write the page for a browser.
        figures: Whether to draw the figures, which takes about a second for each table.

    Raises:
        UserError: The folder cannot be written to.
    """
    written = []
    try:
        for name, text in render(leaderboard, html).items():
            with replacing(folder / name) as temporary:
                temporary.write_bytes(text.encode())
            written.append(folder / name)
        if figures:
            from fvnet_mm.report.leaderboard.figures import draw_figures  # brings matplotlib

            written += draw_figures(leaderboard, folder / FIGURES)
    except OSError as error:
        raise UserError(f"the leaderboard cannot be written into {folder}: {error}.") from error
    return written


def stale_files(leaderboard: Leaderboard, folder: Path, html: bool = True) -> list[Path]:
    """Files that are missing or are not what they would be if they were written now; figures are not looked at."""
    return [folder / name for name, text in render(leaderboard, html).items() if not _is(folder / name, text)]


def _is(file: Path, text: str) -> bool:
    try:
        return file.read_bytes() == text.encode()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error}.") from error
