"""Figures as files for papers: vectors and pixels, without the time at which they were drawn."""

from pathlib import Path

from matplotlib.figure import Figure

from fvnet_mm.files import replacing

SUFFIXES = (".svg", ".png")
_METADATA = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Writes a figure to ``path`` with each of :data:`SUFFIXES` added, and returns the files."""
    written = []
    for suffix in SUFFIXES:
        target = path.with_name(path.name + suffix)
        with replacing(target) as temporary:
            figure.savefig(temporary, format=suffix[1:], metadata=_METADATA[suffix])
        written.append(target)
    return written
