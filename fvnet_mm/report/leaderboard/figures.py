"""Figures for papers: accuracy against cost with the Pareto front, and the classes of a table's best rows."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from fvnet_mm.report.figure_files import SETTINGS, frame, save_figure
from fvnet_mm.report.leaderboard.model import Leaderboard, Row, Table
from fvnet_mm.report.leaderboard.pareto import (
    LATENCY,
    MACS,
    PARAMETERS,
    TRUNK_MACS,
    TRUNK_PARAMETERS,
    Chart,
    Cost,
    chart,
)
from fvnet_mm.report.leaderboard.ranking import is_ranked
from fvnet_mm.report.palette import BLUE, INK, ORANGE, QUIET

_MOST_CLASSES = 40
_LONGEST_NAME = 80
_LOG_FROM = 30  # ratio of the highest cost to the lowest


def draw_figures(leaderboard: Leaderboard, folder: Path) -> list[Path]:
    """Draws every table into ``folder``, each figure as SVG and as PNG.

    Of a table are drawn its main metric against parameters, MACs and latency, as far as they are known (of the whole
    model; of the trunk where no measured row knows the model's), and the classes of its two best rows.

    Returns:
        The files: the table's title in small letters, with ``-parameters``, ``-macs``, ``-latency`` or ``-classes``.
    """
    written = []
    with matplotlib.rc_context(SETTINGS):
        for name, table in zip(file_names(leaderboard.tables), leaderboard.tables, strict=True):
            for cost in _costs(table):
                drawn = chart(table, cost, table.main_metric)
                if drawn.measured:
                    path = folder / f"{name}-{cost.key.removesuffix('-trunk')}"
                    written += save_figure(_draw_chart(drawn, cost, table), path)
            best = [row for row in table.rows if any(row.per_class.values()) and is_ranked(row, table.main_metric)][:2]
            if best:
                written += save_figure(_draw_classes(best, table.title), folder / f"{name}-classes")
    return written


def file_names(tables: Sequence[Table]) -> list[str]:
    """Names for files from the titles of tables; of titles that give one name, with what tells the tables apart."""
    plain = [re.sub(r"[^a-z0-9]+", "-", table.title.lower()).strip("-")[:_LONGEST_NAME] or "table" for table in tables]
    count = Counter(plain)
    return [f"{name}-{table.identity}" if count[name] > 1 else name for name, table in zip(plain, tables, strict=True)]


def _costs(table: Table) -> list[Cost]:
    chosen = []
    for whole, trunk in ((PARAMETERS, TRUNK_PARAMETERS), (MACS, TRUNK_MACS)):
        chosen.append(whole if any(whole.value(row) is not None for row in table.rows) else trunk)
    return [*chosen, LATENCY]


def _draw_chart(drawn: Chart, cost: Cost, table: Table) -> Figure:
    figure, axes = _figure(5.2, 3.6)
    if drawn.front:
        front = drawn.front
        costs, accuracies = [point.cost for point in front], [point.accuracy for point in front]
        axes.step(costs, accuracies, where="post", color=BLUE, linewidth=1, linestyle=":", label="Pareto front")
    for kind, marker in (("measured", "o"), ("imported", "s")):
        points = [point for point in drawn.measured if point.row.provenance == kind]
        on_front = [point for point in points if point in drawn.front]
        for shown, colour in ((points, "white"), (on_front, BLUE)):
            if not shown:
                continue
            axes.errorbar(
                [point.cost for point in shown],
                [point.accuracy for point in shown],
                yerr=[point.deviation or math.nan for point in shown],
                fmt=marker,
                color=BLUE,
                markerfacecolor=colour,
                markersize=5,
                capsize=2,
                elinewidth=0.8,
                label=kind if shown is (on_front or points) else None,
            )
    if drawn.published:
        axes.plot(
            [point.cost for point in drawn.published],
            [point.accuracy for point in drawn.published],
            "D",
            color=QUIET,
            markerfacecolor="none",
            markersize=4,
            label="published, other protocols",
        )
    everything = [point.cost for point in (*drawn.measured, *drawn.published)]
    if min(everything) > 0 and max(everything) > _LOG_FROM * min(everything):
        axes.set_xscale("log")
    axes.margins(x=0.16, y=0.1)  # room for names
    condition = f" {drawn.condition}" if drawn.condition and cost is not LATENCY else ""
    device = f" on {drawn.condition}" if drawn.condition and cost is LATENCY else ""
    quantity = f"{cost.label}{condition} ({cost.unit}){device}"
    frame(axes, _literal(table.title), quantity, f"{table.main_metric} (%)", fontsize=9, wrap=True)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    _lay_out(figure)
    _name_points(figure, axes, drawn)
    return figure


def _name_points(figure: Figure, axes: Axes, drawn: Chart) -> None:
    """Writes names beside points, those of the front first; a name that would cover another or a point is left out."""
    renderer = figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    places = {
        id(point): axes.transData.transform((point.cost, point.accuracy))
        for point in (*drawn.measured, *drawn.published)
    }
    reach = 3.5 * figure.dpi / 72
    taken = [Bbox([place - reach, place + reach]) for place in places.values()]
    for point in drawn.measured:
        deviation = point.deviation or 0
        low, high = axes.transData.transform([(point.cost, point.accuracy + d) for d in (-deviation, deviation)])
        taken.append(Bbox([(low[0] - reach, low[1]), (high[0] + reach, high[1])]))
    for left, right in pairwise(places[id(point)] for point in drawn.front):
        taken += [Bbox([left, (right[0], left[1])]), Bbox([(right[0], left[1]), right])]  # the steps of the front
    offsets = [(-4, 3, "right", "bottom"), (4, -3, "left", "top"), (-4, -3, "right", "top"), (4, 3, "left", "bottom")]
    offsets += [
        (0, -6, "center", "top"),
        (0, 6, "center", "bottom"),
        (7, 0, "left", "center"),
        (-7, 0, "right", "center"),
    ]
    named = [*drawn.front, *(point for point in drawn.measured if point not in drawn.front)]
    for point in named:
        for x, y, horizontal, vertical in offsets:
            text = axes.annotate(
                _literal(point.row.label),
                (point.cost, point.accuracy),
                (x, y),
                textcoords="offset points",
                ha=horizontal,
                va=vertical,
                fontsize=7,
                color=INK,
            )
            box = text.get_window_extent(renderer)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box.padded(reach / 3))
                break
            text.remove()


def _draw_classes(rows: Sequence[Row], title: str) -> Figure:
    """Bars of one or two rows for each class, by the first row's value; of many classes those that differ most."""
    first, others = rows[0], rows[1:]
    metric = next(name for result in first.per_class.values() for name in result)  # records name the main one first
    values = {
        name: [row.per_class.get(name, {}).get(metric) for row in rows]
        for name, result in first.per_class.items()
        if result.get(metric) is not None
    }
    shown = list(values)
    if len(shown) > _MOST_CLASSES:
        shown.sort(key=lambda name: _gap(values[name]), reverse=True)
        which = "that differ most" if others else "with the highest values"
        title = f"{title}\nthe {_MOST_CLASSES} of {len(shown)} classes {which}"
        shown = shown[:_MOST_CLASSES]
    shown.sort(key=lambda name: values[name][0])
    figure, axes = _figure(5.2, 1.3 + 0.2 * max(len(shown), 4))
    height = 0.8 / len(rows)
    for index, (row, colour) in enumerate(zip(rows, (BLUE, ORANGE), strict=False)):
        present = [(place, values[name][index]) for place, name in enumerate(shown) if values[name][index] is not None]
        shift = height * ((len(rows) - 1) / 2 - index)
        axes.barh(
            [place + shift for place, _ in present],
            [value for _, value in present],
            height,
            color=colour,
            label=_literal(row.label),
        )
    axes.set_yticks(range(len(shown)), [_literal(name) for name in shown], fontsize=7)
    axes.set_ylim(-0.7, len(shown) - 0.3)
    frame(axes, _literal(title), f"{metric} (%)", "", grid="x", fontsize=9, wrap=True)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    _lay_out(figure)
    return figure


def _literal(text: str) -> str:
    """Text in which nothing is taken for a formula."""
    return text.replace("$", r"\$")


def _gap(values: Sequence[float | None]) -> float:
    """Difference of two rows, or the value of the only one; a class that only the first row has comes last."""
    if len(values) == 1:
        return values[0]
    return -1.0 if values[1] is None else abs(values[0] - values[1])


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _lay_out(figure: Figure) -> None:
    """Gives everything its place once: names are placed by it, and each file would lay out anew, which takes long."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
