"""When checkpoints are written and which are kept; what happens when the disk is full."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from fvnet_mm.engine.checkpoint import newest_checkpoint, numbered_checkpoints, remove_checkpoint
from fvnet_mm.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@HOOKS.register_module()
class RunCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, which removes an old checkpoint only when the new one is on the disk.

    Args:
        max_keep_ckpts: How many are kept; -1 for all. Those that a stopped run has left within an epoch go as soon as
            there is a later one.
        on_full_disk: 'stop' ends the run where a checkpoint finds no room, 'go-on' warns and goes on without it.
        **settings: Those of mmengine's hook.
    """

    def __init__(self, *, max_keep_ckpts: int = -1, on_full_disk: str = "stop", **settings: object) -> None:
        if on_full_disk not in ("stop", "go-on"):
            raise ValueError(f"on_full_disk must be 'stop' or 'go-on', not {on_full_disk!r}")
        super().__init__(**settings)
        self.keep = max_keep_ckpts
        self.on_full_disk = on_full_disk

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, int]) -> None:
        before = self.last_ckpt
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        except OSError as error:
            if self.on_full_disk == "stop" or not is_full_disk(error):
                raise
            self.last_ckpt = before
            name = self.filename_tmpl.format(step)
            runner.logger.warning(f"the disk of {self.out_dir} is full: going on without {name} ({error.strerror})")
            return
        if is_main_process():
            self._remove_old(Path(self.last_ckpt))

    def _remove_old(self, written: Path) -> None:
        newest_first = numbered_checkpoints(written.parent)
        if written not in newest_first:  # of a name that the config has chosen
            return
        older = newest_first[newest_first.index(written) + 1 :]
        within_epochs = [path for path in older if self.by_epoch and "_iter_" in path.name]
        scheduled = [path for path in older if path not in within_epochs]
        for path in within_epochs + (scheduled[self.keep - 1 :] if self.keep > 0 else []):
            remove_checkpoint(path)


def is_full_disk(error: OSError) -> bool:
    """Whether an error says that a disk, or its user's share of it, is full."""
    return error.errno in _FULL


@contextmanager
def full_disk_in_words(work_dir: Path, resumable: bool) -> Iterator[None]:
    """Turns the error of a full disk into a sentence.

    Args:
        work_dir: Folder of the run.
        resumable: Whether the run can go on from its last good checkpoint, which the sentence names then.

    Raises:
        UserError: In place of such an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        if not is_full_disk(error):
            raise
        newest = newest_checkpoint(work_dir)[0] if resumable else None
        advice = f"make room and go on with --resume from {newest}, which is intact" if newest else "make room first"
        place = f" while {error.filename} was written" if error.filename else ""
        raise UserError(f"the disk of {work_dir} is full ({error.strerror}{place}); {advice}.") from error
