"""What figures have in common: frames and axes, and files for papers without the time at which they were drawn."""

from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from fvnet_mm.files import replacing
from fvnet_mm.report.palette import INK

# What two runs on one machine must write alike: identifiers in the SVG come from a salt, and no file is dated.
SETTINGS = {"svg.hashsalt": "fvnet_mm", "font.size": 9, "axes.linewidth": 0.8}
"""matplotlib's settings for figures that :func:`save_figure` writes."""

SUFFIXES = (".svg", ".png")
_METADATA = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}


def frame(axes: Axes, title: str, x: str, y: str, grid: Literal["both", "x", "y"] = "both", **of_title: object) -> None:
    """Gives axes a title (whose text's properties may be given), names for both quantities, and a grid behind all."""
    axes.set_title(title, loc="left", color=INK, **of_title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(axis=grid, color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def make_logarithmic(axes: Axes) -> None:
    """Gives the vertical axis a logarithmic scale with plain numbers at 1, 2 and 5."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Writes a figure to ``path`` with each of :data:`SUFFIXES` added, and returns the files."""
    written = []
    for suffix in SUFFIXES:
        target = path.with_name(path.name + suffix)
        with replacing(target) as temporary:
            figure.savefig(temporary, format=suffix[1:], metadata=_METADATA[suffix])
        written.append(target)
    return written
