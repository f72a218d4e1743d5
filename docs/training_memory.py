"""What a training pass of FVNet's trunks and of their rivals keeps for backward, counted on a CPU.

python docs/training_memory.py             puts the table into docs/benchmark.md
python docs/training_memory.py --check     exits with 1 where it is not there
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from marked import table, update_parts
from speed import RIVALS

from fvnet_mm.bench.speed.subjects import build_subject, find_subjects
from fvnet_mm.bench.training_memory import saved_bytes

PAGE = Path(__file__).parent / "benchmark.md"
BATCH, SIZE = 2, 224


@functools.cache
def mebibytes(trunk: str) -> float:
    """MiB per image that a trunk with random weights saves for backward in training mode."""
    (subject,) = find_subjects([trunk])
    return saved_bytes(build_subject(subject).train(), torch.rand(BATCH, 3, SIZE, SIZE)) / BATCH / 2**20


def beside_rivals() -> str:
    """Markdown: each FVNet beside each of its rivals."""
    header = ("", "MiB per image", "rival", "MiB per image", "share of the rival's")
    rows = []
    for name, rivals in RIVALS.items():
        for rival in rivals:
            own, its = mebibytes(name), mebibytes(rival)
            rows.append((name, f"{own:.1f}", rival, f"{its:.1f}", f"{own / its:.2f}"))
    return table(header, "lrlrr", rows)


def main() -> None:
    update_parts(__doc__, "python docs/training_memory.py", lambda: {(PAGE, "training_memory"): beside_rivals()})


if __name__ == "__main__":
    main()
