"""A few SVG shapes on a light card, in one style."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

INK, FAINT, RULE, CARD, WHITE = "#1e293b", "#64748b", "#cbd5e1", "#f8fafc", "#ffffff"
BLUE, TEAL, AMBER, VIOLET = "#2563eb", "#0d9488", "#d97706", "#7c3aed"
TINTS = {BLUE: "#dbeafe", TEAL: "#ccfbf1", AMBER: "#fef3c7", VIOLET: "#ede9fe", FAINT: "#e2e8f0"}


class Drawing:
    """An SVG card; coordinates in pixels from its top left corner."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.size = (width, height)
        self.title = title
        self.parts: list[str] = []
        self.rectangle(0.5, 0.5, width - 1, height - 1, fill=CARD, stroke=RULE, radius=14)

    def rectangle(
        self, x: float, y: float, w: float, h: float, *, fill: str, stroke: str = "none", radius: float = 8
    ) -> None:
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{radius:g}" fill="{fill}" '
            f'stroke="{stroke}" stroke-width="1.5"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = 14,
        color: str = INK,
        anchor: str = "middle",
        bold: bool = False,
        italic: bool = False,
    ) -> None:
        style = (' font-weight="600"' if bold else "") + (' font-style="italic"' if italic else "")
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{color}" text-anchor="{anchor}"{style}>'
            f"{escape(words)}</text>"
        )

    def box(self, x: float, y: float, w: float, h: float, lines: Sequence[str], color: str = FAINT) -> None:
        """A tinted box; the first line is its name."""
        self.rectangle(x, y, w, h, fill=TINTS[color], stroke=color)
        top = y + h / 2 - 9 * (len(lines) - 1) + 5
        for i, line in enumerate(lines):
            self.text(x + w / 2, top + 18 * i, line, size=14 if i == 0 else 12.5, bold=i == 0)

    def line(self, *points: tuple[float, float], color: str = FAINT, arrow: bool = True, width: float = 1.6) -> None:
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        head = f' marker-end="url(#head-{color[1:]})"' if arrow else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width:g}"{head}/>')

    def operator(self, x: float, y: float, symbol: str) -> None:
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="12" fill="{WHITE}" stroke="{FAINT}" stroke-width="1.5"/>')
        self.text(x, y + 5.5, symbol, size=17)

    def dot(self, x: float, y: float) -> None:
        """Where a line branches."""
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="3.2" fill="{FAINT}"/>')

    def axes(self, x: float, y: float, w: float, h: float, title: str, horizontal: str) -> None:
        self.rectangle(x, y, w, h, fill=WHITE, stroke=RULE, radius=4)
        self.text(x, y - 12, title, size=13.5, anchor="start", bold=True)
        self.text(x + w, y + h + 18, horizontal, size=12.5, anchor="end", color=FAINT)

    def curve(self, points: Sequence[tuple[float, float]], color: str) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2.2"/>')

    def svg(self) -> str:
        width, height = self.size
        heads = "".join(
            f'<marker id="head-{color[1:]}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0,0.5 L8,4 L0,7.5 z" fill="{color}"/></marker>'
            for color in (FAINT, BLUE, TEAL, AMBER, VIOLET)
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                f'viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif" role="img">',
                f"<title>{escape(self.title)}</title>",
                f"<defs>{heads}</defs>",
                *self.parts,
                "</svg>\n",
            ]
        )
