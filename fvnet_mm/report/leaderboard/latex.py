"""The leaderboard as tables for a paper, with no package but booktabs.

The file compiles on its own; within a document that loads booktabs it can also be read with ``\\input``. Published rows
are those of trunks that the suite describes: all the others are in the files for the screen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from fvnet_mm.report.leaderboard import formatting
from fvnet_mm.report.leaderboard.latex_text import escape
from fvnet_mm.report.leaderboard.model import Leaderboard, Row, Table
from fvnet_mm.report.leaderboard.names import TRUNKS, protocol_summary
from fvnet_mm.report.leaderboard.ranking import best_and_second, is_finished, is_ranked, printed

LINES = 45
"""Lines of rows on a page; a longer table goes on in another."""

_LONGEST_LABEL = 24
"""Characters of a label on one line."""

_RUNNING, _IMPORTED = r"$^{\ast}$", r"$^{\dagger}$"

_HEAD = r"""% Written by tools/leaderboard.py. Compile it, or \input it into a document that loads booktabs.
\expandafter\ifx\csname @classoptionslist\endcsname\relax
\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,margin=18mm]{geometry}
\usepackage{booktabs}
\extrafloats{500}
\makeatletter\@fptop0pt\@fpsep8mm\@fpbot0pt plus 1fil\makeatother
\begin{document}
\def\leaderboardend{\end{document}}
\else
\let\leaderboardend\relax
\fi
"""

_METRIC_HEADS = {
    "AP50": "AP$_{50}$",
    "AP75": "AP$_{75}$",
    "AP_S": r"AP$_{\mathrm{S}}$",
    "AP_M": r"AP$_{\mathrm{M}}$",
    "AP_L": r"AP$_{\mathrm{L}}$",
}


class _Columns:
    """Which columns a table has; a column that would be empty isn't there."""

    def __init__(self, table: Table, rows: Sequence[Row]) -> None:
        self.table = table
        self.sizes = [
            (group, part, field, index)
            for group, field in (("Parameters (M)", "parameters"), ("MACs (G)", "macs"))
            for index, part in enumerate(("trunk", "model"))
            if any(getattr(row, field)[index] is not None for row in rows)
        ]
        self.metrics = _metrics(table, rows)
        self.latency = any(row.latency_ms is not None for row in rows)
        main = [row.metrics[table.main_metric] for row in rows if table.main_metric in row.metrics]
        self.spread = any(statistic.std is not None for statistic in main)
        self.ranked = {name: best_and_second(table, name) for name in self.metrics}

    @property
    def specification(self) -> str:
        metrics = "".join("r@{}l" if self._has_spread(name) else "r" for name in self.metrics)
        return f"@{{}}l{'r' * len(self.sizes)}{metrics}{'r' * self.latency}r@{{}}"

    @property
    def width(self) -> int:
        return 2 + len(self.sizes) + len(self.metrics) + self.spread + self.latency

    def head(self) -> list[str]:
        """Two lines of headings: groups with rules below them, then the columns."""
        groups = [("", 1), *((group, 1) for group, *_ in self.sizes)]
        groups += [(_metric_group(name), 1 + self._has_spread(name)) for name in self.metrics]
        above, rules, column = [], [], 1
        for group, members in groupby(groups, key=lambda pair: pair[0]):
            width = sum(span for _, span in members)
            above.append(rf"\multicolumn{{{width}}}{{c}}{{{group}}}" if group else " &" * (width - 1))
            rules += [rf"\cmidrule(lr){{{column}-{column + width - 1}}}"] if group else []
            column += width
        below = ["Backbone", *(part for _, part, _, _ in self.sizes)]
        for name in self.metrics:
            head = _metric_head(name)
            below.append(rf"\multicolumn{{2}}{{c}}{{{head}}}" if self._has_spread(name) else head)
        above += ["Latency"] * self.latency + [""]
        below += ["(ms)"] * self.latency + ["Runs"]
        return [" & ".join(above) + r" \\", "".join(rules), " & ".join(below) + r" \\"]

    def line(self, row: Row, mark: str = "") -> str:
        """The cells of a row; ``mark`` stands behind its name."""
        cells = [_label(row.label, mark)]
        for _, _, field, index in self.sizes:
            cells.append(_aligned(formatting.count(getattr(row, field)[index], row)))
        for name in self.metrics:
            cells.append(self._metric(row, name))
        if self.latency:
            cells.append("" if row.latency_ms is None else f"{row.latency_ms:.1f}")
        cells.append(str(len(row.runs)) if row.runs else "")
        return " & ".join(cells) + r" \\"

    def _has_spread(self, name: str) -> bool:
        return self.spread and name == self.table.main_metric

    def _metric(self, row: Row, name: str) -> str:
        statistic = row.metrics.get(name)
        if statistic is None:
            return " & " if self._has_spread(name) else ""
        text = printed(statistic.mean)
        if is_ranked(row, name):
            best, second = self.ranked[name]
            text = rf"\textbf{{{text}}}" if text == best else rf"\underline{{{text}}}" if text == second else text
        some = formatting.number_of_some(row, statistic)
        behind = rf"\,{{\scriptsize {some}}}" if some else ""
        if not self._has_spread(name):
            return text + behind
        spread = "" if statistic.std is None else rf"\,{{\scriptsize$\pm$\,{printed(statistic.std)}}}"
        return f"{text} & {spread}{behind}"


def render_latex(leaderboard: Leaderboard) -> str:
    """The whole file."""
    return "\n".join([_HEAD, *(_tables(table) for table in leaderboard.tables), "\\leaderboardend\n"])


def _tables(table: Table) -> str:
    """A table in as many parts as fill a page each."""
    published = [row for row in table.published if row.backbone in TRUNKS]
    rows = [*table.rows, *published]
    columns = _Columns(table, rows)
    return "\n".join(_part(table, columns, part, number) for number, part in enumerate(_pages(rows)))


def _pages(rows: Sequence[Row]) -> list[list[Row]]:
    pages: list[list[Row]] = [[]]
    filled = 0
    for row in rows:
        lines = math.ceil(len(row.label) / _LONGEST_LABEL)
        if filled + lines > LINES:
            pages.append([])
            filled = 0
        pages[-1].append(row)
        filled += lines
    return pages


def _part(table: Table, columns: _Columns, rows: Sequence[Row], number: int) -> str:
    own = [row for row in rows if row.provenance != "published"]
    published = [row for row in rows if row.provenance == "published"]
    sources = list(dict.fromkeys(_source(row) for row in published))
    shapes = _marks_of_shapes(table.rows)
    lines = [columns.line(row, _marks(row, shapes)) for row in own]
    if published:
        heading = "Published, under protocols of their own; not ranked"
        lines += [r"\midrule"] if own else []
        lines.append(rf"\multicolumn{{{columns.width}}}{{@{{}}l}}{{\emph{{{heading}}}}} \\")
        lines += [columns.line(row, rf"\,{{\scriptsize[{1 + sources.index(_source(row))}]}}") for row in published]
    return "\n".join(
        [
            r"\begin{table*}[tp]",
            r"\centering",
            r"\setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{6pt}",
            rf"\caption{{{_caption(table, own)}{' (continued)' * bool(number)}}}",
            rf"\label{{{_reference(table, number)}}}",
            r"\footnotesize",
            r"\setlength{\tabcolsep}{4pt}",
            rf"\begin{{tabular}}{{{columns.specification}}}",
            r"\toprule",
            *columns.head(),
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            *_notes(table, own, sources),
            r"\end{table*}",
            "",
        ]
    )


def _reference(table: Table, number: int) -> str:
    """What \\ref takes: no other table's, and the same whatever else is tabulated."""
    framework = re.sub(r"[^\w-]", "", table.framework, flags=re.ASCII)
    return f"tab:{framework}-{table.identity}" + (f"-{number + 1}" if number else "")


def _caption(table: Table, rows: Sequence[Row]) -> str:
    title = escape(table.title)
    summary = escape(protocol_summary(table.protocol)) or "protocol unknown"
    deviation = any(row.metrics[name].std is not None for row in rows for name in row.metrics)
    spread = r" Mean $\pm$ standard deviation over runs with different seeds." if deviation else ""
    shape = formatting.common(row.macs_shape for row in rows if row.macs != (None, None))
    images = f" {table.images[1]:,} validation images." if table.images[1] is not None else ""
    macs = f" MACs of measured rows at {_size(shape)}." if shape is not None else ""
    best = best_and_second(table, table.main_metric)[0]
    ranked = r" Best in bold, second \underline{underlined}." if best is not None else ""
    return rf"{title}: {summary} (protocol \texttt{{{table.protocol.fingerprint}}}).{images}{spread}{macs}{ranked}"


def _label(label: str, mark: str) -> str:
    """A label, over several lines where one would push the table over the page's edge."""
    text = escape(label)
    if len(label) <= _LONGEST_LABEL:
        return "{}" * text.startswith(("[", "*")) + text + mark  # or the line before takes it for its argument
    breakable = text.replace(r"\_", r"\_\allowbreak{}").replace("=", r"=\allowbreak{}")
    return rf"\parbox[t]{{36mm}}{{\raggedright\hangindent1em {breakable}{mark}\strut}}"


def _marks(row: Row, shapes: Mapping[tuple[int, int], str]) -> str:
    """What stands behind a row's label; the notes below the table say what it means."""
    marks = [_RUNNING * (not is_finished(row)), _IMPORTED * (row.provenance == "imported"), shapes.get(row.macs_shape)]
    return "".join(rf"\,{mark}" for mark in marks if mark)


def _marks_of_shapes(rows: Sequence[Row]) -> dict[tuple[int, int], str]:
    """Marks of the images, (height, width), at which MACs were counted, where the rows of a table differ in it."""
    shapes = dict.fromkeys(row.macs_shape for row in rows if row.macs != (None, None))
    known = [shape for shape in shapes if shape is not None]
    return {shape: f"$^{{{number}}}$" for number, shape in enumerate(known, 1)} if len(shapes) > 1 else {}


def _size(shape: tuple[int, int]) -> str:
    return rf"{shape[0]}$\times${shape[1]}"


def _notes(table: Table, rows: Sequence[Row], sources: Sequence[str]) -> list[str]:
    """What the marks mean, below the table."""
    notes = []
    if not all(is_finished(row) for row in rows):
        notes.append(rf"{_RUNNING}\,not finished, not ranked.")
    if any(row.provenance == "imported" for row in rows):
        unknown = ", ".join(table.protocol.unknown)
        untold = f", which does not tell: {unknown}" if unknown else ""
        notes.append(rf"{_IMPORTED}\,imported from another tool's log{escape(untold)}.")
    for shape, mark in _marks_of_shapes(table.rows).items():
        if any(row.macs_shape == shape for row in rows):
            notes.append(rf"{mark}\,MACs at {_size(shape)}.")
    speed = formatting.common(row.speed_note for row in rows if row.latency_ms is not None)
    if speed is not None:
        notes.append(f"Latency: {escape(speed)}.")
    if any(formatting.number_of_some(row, row.metrics[name]) for row in rows for name in row.metrics):
        notes.append("A number in parentheses: the mean is over so many of the runs.")
    notes += [rf"{{}}[{number}]~{escape(source)}." for number, source in enumerate(sources, 1)]
    return [r"\par\smallskip", rf"\parbox{{\linewidth}}{{\scriptsize\raggedright {' '.join(notes)}}}"] if notes else []


def _source(row: Row) -> str:
    return "; ".join(part for part in (row.source, row.note) if part)


def _metrics(table: Table, rows: Sequence[Row]) -> list[str]:
    """Metrics with a column: beside those of masks there is no room for sizes, and papers do not print them there."""
    names = [name for name in formatting.shown_metrics(table) if any(name in row.metrics for row in rows)]
    masks = any(name.startswith("mask ") for name in names)
    return [name for name in names if not (masks and name.endswith(("_S", "_M", "_L")))]


def _metric_group(name: str) -> str:
    if name.startswith("mask "):
        return r"Mask AP (\%)"
    return r"Box AP (\%)" if name.startswith("AP") else r"Accuracy (\%)"


def _metric_head(name: str) -> str:
    bare = name.removeprefix("mask ")
    return _METRIC_HEADS.get(bare, escape(bare))


def _aligned(number: str) -> str:
    """A number with room for the digits that it lacks, so that points stand below each other in a column."""
    if not number:
        return ""
    _, point, digits = number.partition(".")
    missing = "0" * (formatting.DECIMALS - len(digits))
    if not missing:
        return number
    return rf"{number}\phantom{{{missing if point else '.' + missing}}}"
