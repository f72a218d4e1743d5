"""The workers of a run's data loaders: kept from the signals that ask the run to stop, and told apart by their ids."""

from collections.abc import Callable, Iterator
from functools import partial

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader

from fvnet_mm.engine.hooks import seed_worker
from fvnet_mm.engine.workers import heed_own_process_alone


class ShieldedWorkersHook(Hook):
    """Makes the workers of all loaders, of training and evaluation, ignore signals that their own process has not sent.

    Launchers and terminals send SIGTERM or Ctrl-C to all processes alike; a worker that ends of it takes the run along
    before that has written its checkpoint. What a config gives as ``worker_init_fn`` is called all the same.
    """

    def before_run(self, runner: Runner) -> None:
        for _, loop in _loops(runner):
            loader = loop.dataloader
            first = loader.worker_init_fn
            if getattr(first, "func", first) not in (seed_worker, _start):  # those shield their worker already
                loader.worker_init_fn = partial(_start, first)


def _start(first: Callable[[int], None] | None, worker_id: int) -> None:
    heed_own_process_alone()
    if first is not None:
        first(worker_id)


def loader_of(runner: Runner, worker: int) -> str | None:
    """Name in the config of the loader that a process works for; None where the loader has let go of its workers.

    Torch tells of a worker's death whenever it comes, be it while another loader is read.
    """
    return next((name for name, loop in _loops(runner) if worker in _workers(loop)), None)


def _loops(runner: Runner) -> Iterator[tuple[str, BaseLoop]]:
    """The loops that are built, as a run's are when it begins, with the names of their loaders."""
    for name in ("train", "val", "test"):
        loop = getattr(runner, f"_{name}_loop")
        if isinstance(loop, BaseLoop) and isinstance(loop.dataloader, DataLoader):
            yield f"{name}_dataloader", loop


def _workers(loop: BaseLoop) -> list[int]:
    # Torch keeps an iterator whose workers persist; a schedule of iterations keeps its own.
    stream = getattr(loop, "dataloader_iterator", None)
    iterators = (getattr(loop.dataloader, "_iterator", None), getattr(stream, "_batches", None))
    return [worker.pid for iterator in iterators for worker in getattr(iterator, "_workers", ())]
