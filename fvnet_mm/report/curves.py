"""Curves of a training: losses and learning rate over iterations, metrics over evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from fvnet_mm.files import replacing
from fvnet_mm.report.figure_files import frame, make_logarithmic
from fvnet_mm.report.metrics import in_percent
from fvnet_mm.report.palette import BLUE, COLOURS, GREEN, INK, ORANGE, QUIET, SKY, VERMILION
from fvnet_mm.report.scalars import History, read_scalars

# A metric's colour and line style. All else that is evaluated is in the log, not here.
_STYLES = {
    "AP": (BLUE, "-"),
    "AP50": (VERMILION, "-"),
    "mask AP": (BLUE, "--"),
    "mask AP50": (VERMILION, "--"),
    "mIoU": (GREEN, "-"),
    "mAcc": (ORANGE, "-"),
    "aAcc": (SKY, "-"),
    "top-1": (BLUE, "-"),
    "top-5": (VERMILION, "-"),
}
_MOST_MARKERS = 40


def draw_curves(scalars_files: Sequence[Path], out_file: Path) -> None:
    """Draw a training's losses, learning rate and metrics into a PNG.

    Args:
        scalars_files: mmengine's ``vis_data/scalars.json`` of a training's successive runs in order; from where a
            later one begins it replaces the earlier ones.
        out_file: the picture to write.

    Raises:
        UserError: a file can't be read or is no log of mmengine.
    """
    history = read_scalars(scalars_files)
    figure = Figure(figsize=(12, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    losses, metrics = figure.subplots(1, 2)
    _draw_losses(losses, history)
    _draw_metrics(metrics, history)
    with replacing(out_file) as temporary:
        figure.savefig(temporary, format="png")


def smooth(values: Sequence[float], share: float = 0.02) -> np.ndarray:
    """Average over neighbours with Gaussian weights, at the ends over the neighbours that there are.

    Args:
        values: the points.
        share: standard deviation of the weights as a share of all points; it is at least one point.
    """
    deviation = max(share * len(values), 1)
    reach = round(3 * deviation)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    middle = slice(reach, reach + len(values))
    return np.convolve(values, weights)[middle] / np.convolve(np.ones(len(values)), weights)[middle]


def _draw_losses(axes: Axes, history: History) -> None:
    names = history.loss_names()
    frame(axes, "Training", "iteration", "loss", fontweight="bold")
    if not names:
        _say(axes, "no loss is logged yet")
        return
    everything = []
    for name, colour in zip(names, [INK, *COLOURS[:2], *COLOURS[4:], *COLOURS[2:4]], strict=False):
        steps, values = history.series(name)
        everything += values
        averaged = smooth(values)
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
        axes.plot(
            steps,
            averaged,
            color=colour,
            linewidth=2,
            label=f"{name}  {averaged[-1]:.3g}",
            marker=_marker(steps),
        )
    if min(everything) > 0 and max(everything) > 8 * min(everything):
        make_logarithmic(axes)
    steps, rates = history.series("lr")
    if rates:
        right = axes.twinx()
        right.plot(steps, rates, color=QUIET, linewidth=1, linestyle=":")
        right.set_ylabel("learning rate (dotted)", color=QUIET)
        right.tick_params(colors=QUIET)
        right.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        right.set_ylim(bottom=0)
        right.spines[["top", "left"]].set_visible(False)
        right.spines[["right", "bottom"]].set_color(QUIET)
    axes.set_xlim(left=0)
    _shorten_thousands(axes)
    below = dict(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3)  # Mask R-CNN has six losses
    axes.legend(**below, frameon=False, title="smoothed, last value", title_fontsize="small", fontsize="small")


def _draw_metrics(axes: Axes, history: History) -> None:
    unit = "epoch" if history.by_epoch else "iteration"
    frame(axes, "Evaluation", unit, "%", fontweight="bold")
    evaluations = [(item.step, in_percent(item.metrics)) for item in history.evaluations]
    for name, (colour, style) in _STYLES.items():
        steps = [step for step, metrics in evaluations if name in metrics]
        values = [metrics[name] for _, metrics in evaluations if name in metrics]
        if not steps:
            continue
        best = int(np.argmax(values))
        label = f"{name}, best {values[best]:.1f} ({unit} {steps[best]:,})"
        marker = "o" if len(steps) <= _MOST_MARKERS else ""
        axes.plot(steps, values, style, color=colour, linewidth=2, marker=marker, markersize=4, label=label)
        axes.annotate(
            f"{values[-1]:.1f}",
            (steps[-1], values[-1]),
            (7, 0),
            textcoords="offset points",
            color=colour,
            va="center",
        )
    if not axes.lines:
        _say(axes, "no evaluation with a result yet")
        return
    axes.set_ylim(0, max(axes.get_ylim()[1] * 1.05, 1))
    axes.margins(x=0.08)
    axes.set_xlim(left=min(axes.get_xlim()[0], 0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _shorten_thousands(axes)
    axes.legend(frameon=False, fontsize="small", handlelength=3.5)


def _marker(steps: Sequence[int]) -> str:
    return "o" if len(steps) == 1 else ""


def _shorten_thousands(axes: Axes) -> None:
    if axes.get_xlim()[1] >= 10_000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", color=QUIET, transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])
