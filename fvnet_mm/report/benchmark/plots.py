"""Plots of a benchmark: ratios with their intervals, and throughput over sizes and batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fvnet_mm.records.benchmark import BenchmarkRecord, Case, Measurement
from fvnet_mm.report.benchmark.tables import TITLES
from fvnet_mm.report.figure_files import SETTINGS, frame, make_logarithmic, save_figure
from fvnet_mm.report.palette import BLUE, COLOURS, INK, QUIET

_LINE_WIDTH = 110  # characters of the conditions on a line below a plot
_STYLES = [(colour, line) for line in ("-", "--", ":") for colour in COLOURS[:-1] if colour != "#F0E442"]


def draw_benchmark(record: BenchmarkRecord, folder: Path) -> list[Path]:
    """Draws a record into a folder, each figure as SVG and as PNG.

    Ratios are drawn of every case with more than one model; throughput over sizes and over batches where there are
    several of them.

    Returns:
        The files: ``ratios``, ``sizes`` and ``batches``, with both suffixes.
    """
    written = []
    with matplotlib.rc_context(SETTINGS):
        compared = [case for case in record.cases if len([e for e in record.of_case(case) if e.ratio]) > 1]
        if compared:
            written += save_figure(_ratios(record, compared), folder / "ratios")
        sizes = _sweep(record, "image", lambda case: case.size[0] * case.size[1], _size, _batch)
        batches = _sweep(record, "images in a batch", lambda case: case.batch, lambda case: str(case.batch), _size)
        for name, figure in (("sizes", sizes), ("batches", batches)):
            if figure is not None:
                written += save_figure(figure, folder / name)
    return written


def _ratios(record: BenchmarkRecord, cases: Sequence[Case]) -> Figure:
    """A panel of bars for every case, the models in their order from above."""
    longest = max(len(record.of_case(case)) for case in cases)
    columns = min(len(cases), 3)
    lines = -(-len(cases) // columns)
    figure, panels = _figure(record, lines, columns, 3.4 * columns + 1.5, lines * (0.8 + 0.24 * longest) + 0.5)
    for axes, case in zip(panels, cases, strict=False):
        entries = [entry for entry in record.of_case(case) if entry.ratio is not None]
        places = range(len(entries))
        values = [entry.ratio.value for entry in entries]
        reach = [[value - (e.ratio.low or value) for e, value in zip(entries, values, strict=True)]]
        reach.append([(e.ratio.high or value) - value for e, value in zip(entries, values, strict=True)])
        colours = [QUIET if entry.model == record.baseline else BLUE for entry in entries]
        axes.barh(places, values, color=colours, height=0.7, xerr=reach, error_kw=dict(ecolor=INK, capsize=2))
        axes.axvline(1, color=INK, linewidth=0.8)
        axes.set_yticks(places, [entry.model for entry in entries])
        axes.invert_yaxis()
        frame(axes, _title(case), f"times as fast as {record.baseline}", "", fontsize=9)
    for axes in panels[len(cases) :]:
        axes.set_visible(False)
    return figure


def _sweep(
    record: BenchmarkRecord,
    axis: str,
    position: Callable[[Case], float],
    label_of: Callable[[Case], str],
    group_of: Callable[[Case], str],
) -> Figure | None:
    """Throughput over one quantity, a panel for each value of the others that has several of it; None if none has."""
    groups: dict[str, list[Measurement]] = {}
    for entry in record.measurements:
        groups.setdefault(f"{TITLES[entry.case.what]}, {group_of(entry.case)}", []).append(entry)
    shown = {key: found for key, found in groups.items() if len({position(entry.case) for entry in found}) > 1}
    if not shown:
        return None
    figure, panels = _figure(record, 1, len(shown), 4.2 * len(shown) + 2, 4)
    styles = dict(zip((model.name for model in record.models), _STYLES * len(record.models), strict=False))
    for axes, (title, entries) in zip(panels, shown.items(), strict=True):
        for name in dict.fromkeys(entry.model for entry in entries):
            own = sorted((position(e.case), e.throughput) for e in entries if e.model == name)
            colour, line = styles[name]
            axes.plot(*zip(*own, strict=True), line, color=colour, marker="o", markersize=4, label=name)
        ticks = {position(e.case): label_of(e.case) for e in entries}
        axes.set_xticks(list(ticks), list(ticks.values()))
        make_logarithmic(axes)
        frame(axes, title, axis, "images/s", fontsize=9)
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
    return figure


def _size(case: Case) -> str:
    return f"{case.size[0]}x{case.size[1]}"


def _batch(case: Case) -> str:
    return f"batch {case.batch}"


def _title(case: Case) -> str:
    return f"{TITLES[case.what]}\n{_size(case)}, {_batch(case)}"


def _figure(
    record: BenchmarkRecord, lines: int, columns: int, width: float, height: float
) -> tuple[Figure, Sequence[Axes]]:
    """An empty figure with the record's conditions below its panels."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    words, rows = record.conditions.summary.split(", "), [""]
    for word in words:
        grown = ", ".join(filter(None, (rows[-1], word)))
        rows = [*rows[:-1], grown] if len(grown) <= width * _LINE_WIDTH / 8 else [*rows, word]
    figure.supxlabel(",\n".join(rows), fontsize=7, color=QUIET)
    return figure, panels
