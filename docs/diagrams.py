"""Draws docs/diagrams/*.svg from the code: ``python docs/diagrams.py`` (``--check`` exits with 1 where one is stale).

Channels, depths, kernels and time constants are read from :mod:`fvnet_mm.backbones`, and the curves are computed by
its closed-form step. Each picture is a light card, readable on light and dark pages.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from drawing import AMBER, BLUE, FAINT, RULE, TEAL, TINTS, VIOLET, Drawing
from marked import checks, update_file

from fvnet_mm.backbones import FTFU, FVNet, closed_form_step
from fvnet_mm.backbones.arch import STRIDES
from fvnet_mm.backbones.mpfb import MPFB, phase_widths

FOLDER = Path(__file__).parent / "diagrams"
VARIANT = "s"


def settings_of_block(arch: str) -> tuple[MPFB, int]:
    """First block of the stage with the most blocks, and that stage."""
    net = FVNet(arch)
    stage = max(range(len(STRIDES)), key=lambda i: net.arch.depths[i])
    return net.stages[stage].blocks[0], stage


def draw_ftfu() -> Drawing:
    drawing = Drawing(960, 580, "FTFU, the Fluid Temporal Flow Unit")
    unit = settings_of_block(VARIANT)[0].phases[-1].unit
    kernel, gate = unit.attractor.conv.kernel_size[0], unit.conductance.conv.kernel_size[0]
    drawing.text(28, 38, "FTFU", size=19, anchor="start", bold=True)
    drawing.text(90, 38, "one liquid time-constant neuron per position and channel", anchor="start", color=FAINT)

    drawing.box(28, 156, 104, 56, ["state x", "N, C, H, W"])
    drawing.line((132, 184), (606, 184))
    drawing.text(596, 176, "h = x", size=13, italic=True, anchor="end")
    drawing.dot(160, 184)
    drawing.dot(428, 184)
    drawing.line((160, 184), (160, 96), (186, 96), color=BLUE)
    drawing.box(188, 68, 186, 56, ["attractor", f"depthwise {kernel} × {kernel}, norm"], BLUE)
    drawing.line((374, 96), (414, 96), color=BLUE)
    drawing.operator(428, 96, "+")
    drawing.line((428, 184), (428, 110))
    drawing.line((442, 96), (586, 96), (586, 146), (606, 146), color=BLUE)
    drawing.text(514, 88, "a", size=13, italic=True, color=BLUE)
    drawing.line((160, 184), (160, 272), (186, 272), color=TEAL)
    drawing.box(188, 244, 186, 56, ["conductance", f"depthwise {gate} × {gate}, norm"], TEAL)
    drawing.line((374, 272), (414, 272), color=TEAL)
    drawing.box(416, 250, 92, 44, ["softplus"], TEAL)
    drawing.line((508, 272), (586, 272), (586, 222), (606, 222), color=TEAL)
    drawing.text(548, 264, "f ≥ 0", size=13, italic=True, color=TEAL)

    drawing.rectangle(608, 106, 234, 156, fill=TINTS[VIOLET], stroke=VIOLET)
    drawing.text(725, 134, "closed-form step", bold=True)
    for i, formula in enumerate(("λ = 1/τ + f", "h* = f · a / λ", "y = h* + (h − h*) · exp(−Δt · λ)")):
        drawing.text(725, 166 + 27 * i, formula, size=14)
    drawing.text(725, 246, f"exact; Δt = {unit.dt:g}", size=12.5, color=FAINT)
    drawing.box(640, 292, 170, 44, ["τ, learnable", "one per channel"], AMBER)
    drawing.line((725, 292), (725, 264), color=AMBER)
    drawing.line((842, 184), (872, 184))
    drawing.box(874, 156, 62, 56, ["y"])

    def relaxation(f: float, tau: float) -> Callable[[float], float]:
        state, attractor, conductance = (torch.tensor(v, dtype=torch.float64) for v in (-1.0, 1.0, f))
        return lambda t: closed_form_step(state, attractor, conductance, tau, t).item()

    left, top, width, height = 56, 396, 340, 140
    drawing.axes(left, top, width, height, "From h = −1 towards a = 1, with τ = 4", "time")
    for value in (-1, 0, 1):
        level = top + height * (1.15 - value) / 2.3
        drawing.text(left - 8, level + 4, f"{value}".replace("-", "−"), size=12, anchor="end", color=FAINT)
    for f, color in ((0.1, AMBER), (0.5, TEAL), (2.5, BLUE)):
        flow = relaxation(f, 4.0)
        points = [(left + width * i / 100, top + height * (1.15 - flow(8 * i / 100)) / 2.3) for i in range(101)]
        drawing.curve(points, color)
        drawing.text(
            left + width + 8, points[-1][1] + 5, f"f = {f:g}", size=12.5, anchor="start", color=color, bold=True
        )

    left, top, width, height = 576, 396, 340, 140
    drawing.axes(left, top, width, height, "Effective time constant τ / (1 + τ f)", "f, from 0 to 2")
    for tau, color in ((1, BLUE), (4, TEAL), (16, AMBER)):
        points = [
            (left + width * i / 100, top + height * (1 - math.log2(1 + tau / (1 + tau * i / 50)) / 4.4))
            for i in range(101)
        ]
        drawing.curve(points, color)
        drawing.text(left - 8, points[0][1] + 4, f"τ = {tau}", size=12.5, anchor="end", color=color, bold=True)
    return drawing


def draw_mpfb() -> Drawing:
    block, stage = settings_of_block(VARIANT)
    arch = FVNet.get_arch(VARIANT)
    phases = list(block.phases)
    spacing, top = 104, 84
    height = top + spacing * len(phases) + 140
    drawing = Drawing(960, height, "MPFB, the Multi-Phase Fluid Block")
    drawing.text(28, 38, "MPFB", size=19, anchor="start", bold=True)
    drawing.text(
        98,
        38,
        f"phases of several reaches in parallel; numbers: stage {stage} of FVNet-{VARIANT.upper()}",
        anchor="start",
        color=FAINT,
    )
    centre = top + spacing * len(phases) / 2 - 6
    bypass = height - 92
    channels = arch.channels[stage]
    drawing.box(24, centre - 28, 76, 56, ["x", f"C = {channels}"])
    drawing.line((100, centre), (128, centre))
    drawing.rectangle(130, top - 4, 14, spacing * len(phases) - 4, fill=TINTS[FAINT], stroke=FAINT, radius=4)
    colors = (BLUE, TEAL, AMBER, VIOLET)
    for p, (phase, width) in enumerate(zip(phases, phase_widths(channels, len(phases)), strict=True)):
        color, y = colors[p % len(colors)], top + spacing * p
        middle = y + 42
        kernel = phase.unit.attractor.conv.kernel_size[0]
        holds = ["x + SiLU(v)", f"v: {kernel} × {kernel}"]
        if isinstance(phase.unit, FTFU):
            tau = phase.unit.tau.flatten().tolist()
            holds = ["FTFU", f"{kernel} × {kernel}", f"τ {tau[0]:.0f} to {tau[-1]:.0f}"]
        drawing.line((144, middle), (170, middle), color=color)
        name = "fast" if p == 0 else "slow" if p == len(phases) - 1 else "slower"
        drawing.box(172, y + 6, 88, 72, [name, f"{width} ch."], color)
        drawing.line((260, middle), (288, middle), color=color)
        if phase.grid > 1:
            drawing.box(290, y + 12, 62, 60, ["mean", f"{phase.grid} × {phase.grid}"], color)
            drawing.line((352, middle), (368, middle), color=color)
            drawing.box(370, y + 6, 118, 72, holds, color)
            drawing.line((488, middle), (504, middle), color=color)
            drawing.box(506, y + 12, 62, 60, ["spread", "change"], color)
        else:
            drawing.box(290, y + 6, 278, 72, holds, color)
        drawing.line((568, middle), (594, middle), color=color)
    drawing.rectangle(596, top - 4, 14, spacing * len(phases) - 4, fill=TINTS[FAINT], stroke=FAINT, radius=4)
    for x, name in ((137, "split"), (603, "concat")):
        drawing.text(x, top - 12, name, size=12.5, color=FAINT)
    drawing.line((610, centre), (626, centre))
    drawing.box(628, centre - 32, 62, 64, ["mix", "1 × 1"], VIOLET)
    drawing.line((690, centre), (704, centre))
    drawing.operator(718, centre, "+")
    drawing.dot(114, centre)
    drawing.line((114, centre), (114, bypass), (718, bypass), (718, centre + 14))
    drawing.text(416, bypass - 8, "residual", size=12.5, color=FAINT)
    drawing.line((730, centre), (764, centre))
    expansion = arch.expansions[stage]
    lines = ["feed-forward", f"1 × 1, C → {expansion:g} C", "activation", f"1 × 1, {expansion:g} C → C"]
    if arch.conv_ffn:
        lines.insert(2, "+ depthwise 3 × 3")
    tall = 27 * len(lines)
    drawing.box(764, centre - tall / 2, 126, tall, lines, VIOLET)
    drawing.line((888, centre), (900, centre))
    drawing.operator(914, centre, "+")
    drawing.dot(747, centre)
    drawing.line((747, centre), (747, bypass), (914, bypass), (914, centre + 14))
    drawing.text(830, bypass - 8, "residual", size=12.5, color=FAINT)
    drawing.line((926, centre), (950, centre))
    drawing.text(
        28,
        height - 40,
        "The slow phase sees averages of a coarse grid and hands its change to each of its pixels; its time constants",
        size=12.5,
        anchor="start",
        color=FAINT,
    )
    drawing.text(
        28,
        height - 21,
        "start on a geometric ladder and are learned. The fast one is the limit without leak. All norms fold away.",
        size=12.5,
        anchor="start",
        color=FAINT,
    )
    return drawing


def draw_fvnet() -> Drawing:
    archs = FVNet.arch_settings
    drawing = Drawing(960, 280 + 26 * len(archs), "FVNet")
    drawing.text(28, 38, "FVNet", size=19, anchor="start", bold=True)
    drawing.text(106, 38, "a convolutional stem and four stages of MPFBs", anchor="start", color=FAINT)
    middle, colors = 142, (BLUE, TEAL, AMBER, VIOLET)
    drawing.box(24, middle - 30, 76, 60, ["image", "N, 3, H, W"])
    drawing.line((100, middle), (120, middle))
    drawing.box(122, middle - 50, 106, 100, ["stem", "3 × 3, stride 2", "3 × 3", "3 × 3, stride 2"])
    rows = 252
    drawing.line((24, rows - 24), (936, rows - 24), color=RULE, arrow=False, width=1.2)
    drawing.text(28, rows - 2, "channels × blocks", size=12.5, anchor="start", color=FAINT)
    for i, stride in enumerate(STRIDES):
        x, tall = 252 + 172 * i, 112 - 16 * i
        drawing.line((x - 24 if i == 0 else x - 22, middle), (x - 2, middle))
        name = f"stage {i}"
        lead = "" if i == 0 else "downsample, "
        drawing.box(x, middle - tall / 2, 150, tall, [name, f"{lead}MPFBs", f"H/{stride} × W/{stride}"], colors[i])
        drawing.line((x + 75, middle - tall / 2), (x + 75, 74), color=colors[i])
        drawing.text(x + 75, 66, f"norm → output {i}", size=12.5, color=colors[i], bold=True)
        drawing.text(x + 75, rows - 2, f"stride {stride}", size=12.5, color=FAINT)
    for r, (name, arch) in enumerate(archs.items()):
        y = rows + 26 * (r + 1)
        drawing.text(28, y, f"FVNet-{name.upper()}", anchor="start", bold=True)
        for i in range(len(STRIDES)):
            drawing.text(252 + 172 * i + 75, y, f"{arch.channels[i]} × {arch.depths[i]}")
    return drawing


DRAWINGS: dict[str, Callable[[], Drawing]] = {"ftfu": draw_ftfu, "mpfb": draw_mpfb, "fvnet": draw_fvnet}


def main() -> None:
    check = checks(__doc__)
    for name, draw in DRAWINGS.items():
        update_file(FOLDER / f"{name}.svg", draw().svg(), "python docs/diagrams.py", check=check)


if __name__ == "__main__":
    main()
