"""A training on a disk that becomes full; needs the right to mount (root).

python tests/drills/disk.py

A tmpfs is the work dir. When the first checkpoint is there, a file fills the disk: up to half a checkpoint, so that
logs and records still fit, or up to the last byte, so that nothing does.
"""

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from warm import RETINANET, Child

from fvnet_mm.data.shapes import write_coco_shapes
from fvnet_mm.engine.checkpoint import damage, newest_checkpoint
from fvnet_mm.records.reading import read_record

MEGABYTES = 16


def main() -> None:
    """Runs the drill and prints what the runs said; an assertion that fails is a fault."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_coco_shapes(Path(folder, "data"), 8, 4, (64, 64))
        for number, (policy, room) in enumerate((("stop", 0.5), ("go-on", 0.5), ("stop", 0.0))):
            with small_disk(Path(folder, f"disk{number}")) as disk:
                fill_while_training(data, disk, Path(folder, f"{number}.log"), policy, room)


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """Mounts a tmpfs."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill_while_training(data: Path, disk: Path, log: Path, policy: str, room: float) -> None:
    """Trains, fills the disk but for ``room`` checkpoints, and goes on when there is room again."""
    words = ("train", RETINANET, "--data", data, "--work-dir", disk / "run", "--cfg-options")
    words += (f"default_hooks.checkpoint.on_full_disk={policy}", "train_cfg.max_epochs=4")
    child = Child(log, *words)
    first = disk / "run" / "epoch_1.pth"
    while not first.exists():
        assert child.running(), child.text()[-4000:]
        time.sleep(0.01)
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while file.write(b"\0" * 4096):
                pass
        file.truncate(max(file.tell() - int(room * first.stat().st_size), 0))
    status = child.wait()
    newest, damaged = newest_checkpoint(disk / "run")
    assert newest is not None
    assert not damaged
    assert damage(newest) is None
    read_record(disk / "run" / "run.json")
    said = [line for line in child.text().splitlines() if "is full" in line]
    assert said, child.text()[-4000:]
    assert "Traceback" not in child.text(), child.text()[-4000:]
    assert status == (2 if policy == "stop" else 0)
    filler.unlink()
    again = Child(log.with_suffix(".again"), *words[:6], "--resume", *words[6:])
    assert again.wait() == 0, again.text()[-4000:]
    print(f"{policy}, room for {room} checkpoints: status {status}; {len(said)} x '{said[0].strip()[-160:]}'; resumed")


if __name__ == "__main__":
    if os.geteuid() != 0:
        raise SystemExit("error: the drill mounts a tmpfs, which only root may.")
    main()
