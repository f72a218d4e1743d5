"""One training in a work dir at a time."""

import json
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from fvnet_mm.errors import UserError
from fvnet_mm.files import remove_leftovers, write_text

LOCK, OWNER = "run.lock", "run.lock.owner"
"""Files of a work dir: what the kernel locks, and who holds it. The former stays, the latter goes with the run."""

SIGN_OF_LIFE = 10.0
"""Seconds between two touches of :data:`OWNER`."""

DEAD_AFTER = 6 * SIGN_OF_LIFE
"""Age of :data:`OWNER` at which a run on another host counts as dead."""


@contextmanager
def only_training_in(work_dir: Path) -> Iterator[str | None]:
    """Keeps other trainings out of a work dir until the end of the block; removes what a killed one left half written.

    The lock is the kernel's (``flock``): it goes with the process that holds it, however that ends, so that a killed
    run leaves none behind on its own host. Some network file systems do not tell other hosts of it, or keep it a while
    for a host that is gone; there the file :data:`OWNER` decides, which names host and process and is touched every
    :data:`SIGN_OF_LIFE` seconds.

    Yields:
        What to say of a run that was killed here and whose lock is taken over, or None.

    Raises:
        UserError: Another training runs in the folder, or it cannot be made.
    """
    made = [folder for folder in (work_dir, *work_dir.parents) if not folder.exists()]
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the work dir {work_dir} cannot be made ({error.strerror}); choose another with --work-dir."
        ) from error
    lock = FileLock(work_dir / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UserError(_refusal(work_dir, _read(work_dir / OWNER))) from error
    try:
        file = work_dir / OWNER
        left = _read(file)
        age = _age(file) if left else 0.0
        if left and left["host"] != platform.node() and age < DEAD_AFTER:
            raise UserError(_refusal(work_dir, left))
        remove_leftovers(work_dir)
        me = dict(host=platform.node(), pid=os.getpid(), since=datetime.now(timezone.utc).isoformat(timespec="seconds"))
        write_text(file, json.dumps(me))
        ended = threading.Event()
        beat = threading.Thread(target=_show_life, args=(file, ended), daemon=True)
        beat.start()
        try:
            yield f"an earlier run here ended without notice ({_name(left)}); its lock is taken over" if left else None
        finally:
            ended.set()
            beat.join()
            file.unlink(missing_ok=True)
    finally:
        lock.release()
        if made and [path.name for path in work_dir.iterdir()] == [LOCK]:  # refused before anything was written
            (work_dir / LOCK).unlink()
            for folder in made:
                if any(folder.iterdir()):  # another run's
                    break
                folder.rmdir()


def _show_life(file: Path, ended: threading.Event) -> None:
    while not ended.wait(SIGN_OF_LIFE):
        with suppress(OSError):  # a file system that is away for a moment
            file.touch()


def _read(file: Path) -> dict[str, str] | None:
    """Who holds, or held, the lock; None where no run left its name."""
    try:
        owner = json.loads(file.read_bytes())
        return {key: str(owner[key]) for key in ("host", "pid", "since")}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return dict(host="unknown", pid="unknown", since="unknown")


def _age(file: Path) -> float:
    """Seconds since a file was touched, by the clock of the file system that it is on."""
    now = file.with_name(f"{file.name}.now")
    now.touch()
    age = now.stat().st_mtime - file.stat().st_mtime
    now.unlink()
    return age


def _name(owner: dict[str, str] | None) -> str:
    return f"process {owner['pid']} on {owner['host']}, since {owner['since']}" if owner else "its name is unknown"


def _refusal(work_dir: Path, owner: dict[str, str] | None) -> str:
    return (
        f"another training runs in {work_dir} ({_name(owner)}); wait for its end, stop it, or choose another folder "
        "with --work-dir."
    )
