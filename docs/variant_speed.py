"""How fast FVNet-T is with one part changed, beside FVNet-T as it is: all rows of the ablation's first base take turns.

python docs/variant_speed.py [--threads 2]     writes results/ablation/speed.json, for docs/ablation.py
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import torch
from ablation_bases import BASES
from ablation_rows import settings_of, variants

from fvnet_mm.backbones import FVNet
from fvnet_mm.bench.speed.fuse import fuse_trunk
from fvnet_mm.bench.speed.rounds import interleave, passes_of_a_turn, timed
from fvnet_mm.bench.speed.statistics import ratio_of
from fvnet_mm.files import replacing

KEPT = Path(__file__).parents[1] / "results" / "ablation" / "speed.json"
SIZES = (224, 512)
ROUNDS, TURN_SECONDS = 12, 0.2


def measure(size: int) -> dict[str, list[float]]:
    """How many times as fast as the base each row is, with its interval, by its settings: images of that size, alone.

    Trunks are in their form for inference, batch norms folded.
    """
    images = torch.randn(1, 3, size, size)

    def turn_of(trunk: torch.nn.Module):
        def run() -> None:
            with torch.inference_mode():
                trunk(images)

        run()
        passes = passes_of_a_turn(timed(run, 1, time.perf_counter, lambda: None)[0], TURN_SECONDS)
        return lambda: timed(run, passes, time.perf_counter, lambda: None)

    rows = {settings_of(row.arguments): row.arguments for row in variants(BASES[0])}
    turns = {settings: turn_of(fuse_trunk(FVNet(**arguments))[0]) for settings, arguments in rows.items()}
    seconds = interleave(turns, ROUNDS, lambda number: print(f"{size} x {size}, round {number + 1} of {ROUNDS}"))
    base = seconds[settings_of(BASES[0].arguments)]
    ratios = {settings: ratio_of(rounds, base) for settings, rounds in seconds.items()}
    return {settings: [ratio.value, ratio.low, ratio.high] for settings, ratio in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the rows of the ablation's first base, on this CPU.")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result = dict(
        machine=platform.machine(),
        threads=arguments.threads,
        torch=torch.__version__,
        ratios={str(size): measure(size) for size in SIZES},
    )
    with replacing(KEPT) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
