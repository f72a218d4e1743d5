"""How fast FVNet-T is with one part changed, beside FVNet-T as it is: all rows of the ablation's first base take turns.

python docs/variant_speed.py [--threads 2]     writes results/ablation/speed.json, for docs/ablation.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

import torch
from ablation import SPEEDS
from ablation_bases import BASES
from ablation_rows import settings_of, variants
from torch import nn

from fvnet_mm.backbones import FVNet
from fvnet_mm.bench.speed.fuse import fuse_trunk
from fvnet_mm.bench.speed.rounds import Turn, interleave, passes_of_a_turn, timed
from fvnet_mm.bench.speed.statistics import ratio_of
from fvnet_mm.engine.run_facts import processor_name
from fvnet_mm.files import write_text

SIZES = (224, 512)
ROUNDS, TURN_SECONDS = 8, 0.1


def measure(trunks: Mapping[str, nn.Module], size: int) -> dict[str, list[float]]:
    """How many times as fast as the base each trunk is, with its interval, on single images of that size.

    Args:
        trunks: In their form for inference, by the settings of their rows.
        size: Height and width of the image.
    """
    images = torch.randn(1, 3, size, size)

    def turn_of(trunk: nn.Module) -> Turn:
        def run() -> None:
            with torch.inference_mode():
                trunk(images)

        run()
        passes = passes_of_a_turn(timed(run, 1, lambda: None)[0], TURN_SECONDS)
        return lambda: timed(run, passes, lambda: None)

    turns = {settings: turn_of(trunk) for settings, trunk in trunks.items()}
    seconds = interleave(turns, ROUNDS, lambda number: print(f"{size} x {size}, round {number + 1} of {ROUNDS}"))
    base = seconds[settings_of(BASES[0].arguments)]
    ratios = {settings: ratio_of(rounds, base) for settings, rounds in seconds.items()}
    return {settings: [ratio.value, ratio.low, ratio.high] for settings, ratio in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the rows of the ablation's first base, on this CPU.")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = {settings_of(row.arguments): row.arguments for row in variants(BASES[0])}
    trunks = {settings: fuse_trunk(FVNet(**row))[0] for settings, row in rows.items()}
    result = dict(
        processor=processor_name(),
        threads=arguments.threads,
        torch=torch.__version__,
        ratios={str(size): measure(trunks, size) for size in SIZES},
    )
    write_text(SPEEDS, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
