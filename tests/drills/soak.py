"""A long training with many evaluations: neither memory nor open files may grow.

python tests/drills/soak.py [--iterations 2000] [--every 50]

After each evaluation the resident memory and the open files of the training and its worker are read from /proc. The
medians of the second quarter and the last are compared: the first still fills caches.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from warm import SEMANTIC_FPN, Child

from fvnet_mm.data.semantic_shapes import write_ade20k_shapes

MAY_GROW = {"resident memory, MB": (1.02, 0), "open files": (1, 5)}
"""What counts as noise from the second quarter to the last: a factor, and a number. A file left open by every
evaluation would be twenty more."""


def main() -> None:
    """Runs the drill and prints its figures; an assertion that fails is a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--every", type=int, default=50, help="iterations between evaluations")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = write_ade20k_shapes(Path(folder, "data"), 16, 2, (64, 64))
        options = [f"train_cfg.max_iters={arguments.iterations}", f"train_cfg.val_interval={arguments.every}"]
        options += [f"default_hooks.checkpoint.interval={arguments.every}", "default_hooks.logger.interval=25"]
        options += [f"param_scheduler.0.end={arguments.iterations}", "model.decode_head.norm_cfg.type=BN"]
        words = ("train", SEMANTIC_FPN, "--data", data, "--work-dir", Path(folder, "work"), "--cfg-options", *options)
        samples = watch(Child(Path(folder, "log"), *words), Path(folder, "work"))
    evaluations = arguments.iterations // arguments.every
    assert len(samples) > 0.8 * evaluations, f"only {len(samples)} of {evaluations} evaluations were seen"
    quarter = len(samples) // 4
    for (what, (factor, more)), values in zip(MAY_GROW.items(), zip(*samples, strict=True), strict=True):
        early, late = (statistics.median(part) for part in (values[quarter : 2 * quarter], values[-quarter:]))
        print(f"{what}: {values[0]:.0f} first, {early:.0f} in the second quarter, {late:.0f} in the last")
        assert late <= factor * early + more, values


def watch(child: Child, work_dir: Path) -> list[tuple[float, int]]:
    """(Megabytes, open files) after every evaluation."""
    samples: list[tuple[float, int]] = []
    seen = 0
    while child.running():
        time.sleep(0.1)
        lines = [line for file in work_dir.glob("*/vis_data/scalars.json") for line in file.read_text().splitlines()]
        if (done := sum("mIoU" in json.loads(line) for line in lines if line.endswith("}"))) > seen:
            seen = done
            samples.append(usage([child.pid, *children_of(child.pid)]))
    assert child.status == 0, child.text()[-4000:]
    return samples


def children_of(pid: int) -> list[int]:
    """Its workers."""
    file = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in file.read_text().split()] if file.exists() else []


def usage(pids: list[int]) -> tuple[float, int]:
    """Megabytes of memory that belong to the processes alone or in shares, and their open files."""
    memory, files = 0.0, 0
    for pid in pids:
        try:
            share = next(line for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if "Pss:" in line)
            memory += int(share.split()[1]) / 1024
            files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
    return memory, files


if __name__ == "__main__":
    main()
