"""SIGKILL at random moments of a training, until it is done; it must end as if nothing had happened.

python tests/drills/kill.py [--kills 25] [--seed 0]

Starts a tiny training (three epochs on twelve images, one worker, CPU) and kills it with its worker: at moments drawn
evenly over what a whole run takes, every third time the moment that a checkpoint is being written. It is then
resumed, and killed again. Every training that reaches its end is compared bit by bit with one that was left alone:
weights, optimizer, the figures of all evaluations, predictions. After every kill no temporary file may be taken for a
checkpoint, and what --resume would take must be whole.
"""

import argparse
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from warm import RETINANET, Child

from fvnet_mm.data.shapes import write_coco_shapes
from fvnet_mm.engine.checkpoint import damage, newest_checkpoint, numbered_checkpoints, read_checkpoint
from fvnet_mm.records.reading import read_record


def main() -> None:
    """Runs the drill and prints its counts; an assertion that fails is a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = drill(Path(folder), arguments.kills, random.Random(arguments.seed))
    print(", ".join(f"{name} {count}" for name, count in counts.items()))


def drill(folder: Path, kills: int, moments: random.Random) -> Counter[str]:
    """Kills so many times and returns what it saw."""
    data = write_coco_shapes(folder / "data", 12, 4, (64, 64))
    words = ("train", RETINANET, "--data", data, "--work-dir")
    start = time.monotonic()
    assert Child(folder / "whole.log", *words, folder / "whole").wait() == 0, (folder / "whole.log").read_text()
    whole = time.monotonic() - start
    counts = Counter(kills=0)
    work, number = folder / "0", 0
    while counts["kills"] < kills or work.exists():
        child = Child(folder / f"{number}.log", *words, work, "--resume")
        if counts["kills"] < kills:
            moment = "while a checkpoint was written" if counts["kills"] % 3 == 2 else "at a random moment"
            wait_for(child, moment, work, moments.uniform(0, whole))
        if counts["kills"] < kills and child.running():
            child.kill()
            counts["kills"] += 1
            counts[f"kills {moment}"] += 1
            counts["temporary files left"] += len(list(work.glob(".*")))
            for path in numbered_checkpoints(work) if work.exists() else ():
                assert damage(path) is None, f"{path} {damage(path)}"
            continue
        assert child.wait() == 0, child.text()[-4000:]
        compare(folder / "whole", work)
        assert not list(work.glob(".*")), "a temporary file stays"
        counts["trainings that ended as the one left alone"] += 1
        shutil.rmtree(work)
        number += 1
        if counts["kills"] < kills:
            work = folder / str(number)
    return counts


def wait_for(child: Child, moment: str, work: Path, seconds: float) -> None:
    """Waits for a number of seconds or for a checkpoint's temporary file; less, if the tool ends before."""
    end = time.monotonic() + seconds
    while child.running():
        if moment == "at a random moment":
            if time.monotonic() > end:
                return
            time.sleep(0.001)
        elif any(work.glob(".epoch_*.pth")):
            return
        else:
            time.sleep(0.0003)


def compare(whole: Path, killed: Path) -> None:
    """Raises an AssertionError unless two runs have the same end, bit by bit."""
    one, other = (read_record(folder / "run.json") for folder in (whole, killed))
    assert one.evaluations == other.evaluations
    assert one.result == other.result
    newest = newest_checkpoint(killed)[0]
    assert newest is not None
    assert newest.name == one.checkpoint == other.checkpoint
    first, second = (read_checkpoint(folder / newest.name) for folder in (whole, killed))
    assert first["state_dict"].keys() == second["state_dict"].keys()
    for name, tensor in first["state_dict"].items():
        assert torch.equal(tensor, second["state_dict"][name]), name
    for key, state in first["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, second["optimizer"]["state"][key][name]), (key, name)


if __name__ == "__main__":
    main()
