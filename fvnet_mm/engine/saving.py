"""When checkpoints are written and which are kept; what happens when the disk is full."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config
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
        older = newest_first[newest_first.index(written) + 1 :]
        within_epochs = [path for path in older if self.by_epoch and "_iter_" in path.name]
        scheduled = [path for path in older if path not in within_epochs]
        for path in within_epochs + (scheduled[self.keep - 1 :] if self.keep > 0 else []):
            remove_checkpoint(path)


def refuse_other_checkpoints(cfg: Config) -> None:
    """Makes certain that a training's checkpoints are those that resuming, records and tests look for.

    Raises:
        UserError: The config has them written elsewhere, under other names, or counted in what its schedule does not.
    """
    settings = (cfg.get("default_hooks") or {}).get("checkpoint", {})  # None switches them off, and nothing does not
    if settings is None:
        return
    for key in ("out_dir", "filename_tmpl"):
        if settings.get(key) is not None:
            raise UserError(
                f"default_hooks.checkpoint.{key} is {settings[key]!r}, and --resume looks for epoch_*.pth or "
                f"iter_*.pth in the work dir; leave {key} out, and choose the folder with --work-dir."
            )
    lengths = {key for key in ("max_epochs", "max_iters") if cfg.train_cfg.get(key) is not None}
    by_epoch = settings.get("by_epoch", True)  # as mmengine's hook has it
    if by_epoch and lengths == {"max_iters"}:
        raise UserError(
            f"the run has train_cfg.max_iters={cfg.train_cfg.max_iters}, and its checkpoints are counted in epochs, so "
            "only the end would be saved; set default_hooks.checkpoint.by_epoch=False and interval to iterations."
        )
    if not by_epoch and lengths == {"max_epochs"}:
        raise UserError(
            f"the run has train_cfg.max_epochs={cfg.train_cfg.max_epochs}, and default_hooks.checkpoint.by_epoch=False "
            "counts its checkpoints in iterations, from within an epoch --resume would train steps twice; set by_epoch="
            "True and interval to epochs (a run that is asked to stop saves within an epoch, too)."
        )


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
