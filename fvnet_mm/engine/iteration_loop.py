"""Schedules of iterations whose data go on, after resuming, where they stopped, without reading what came before.

mmengine's loop reads all batches that were trained on once more and drops them, because what a worker draws depends on
all that it drew before. Here every batch has a number; its number decides which images are in it and, with the seed,
the random states in which they are read.
"""

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from mmengine.config import ConfigDict
from mmengine.dist import get_rank
from mmengine.registry import DATA_SAMPLERS, LOOPS
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from fvnet_mm.engine.seeding import NumberedBatch, read_together, reads_together, seed_generators


@DATA_SAMPLERS.register_module()
class NumberedBatches(BatchSampler):
    """The batches of another sampler, without end, from any number on.

    Args:
        sampler: Gives the images' indices.
        batch_size: Images in a batch.
        drop_last: Whether a smaller batch at the end of the data is left out.
        batch_sampler: Config of the batch sampler that makes the batches; None for torch's.

    Attributes:
        start: Number of the first batch.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        batch_size: int,
        drop_last: bool = False,
        batch_sampler: dict[str, object] | None = None,
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.batches: Sampler[list[int]] = BatchSampler(sampler, batch_size, drop_last)
        if batch_sampler is not None:
            self.batches = DATA_SAMPLERS.build(batch_sampler, default_args=dict(sampler=sampler, batch_size=batch_size))
        self.start = 0

    def __iter__(self) -> Iterator[NumberedBatch]:
        """Yields (number, indices)."""
        yield from itertools.islice(enumerate(self._endless()), self.start, None)

    def _endless(self) -> Iterator[list[int]]:
        for times in itertools.count():
            if times and hasattr(self.sampler, "set_epoch"):
                self.sampler.set_epoch(times)
            empty = True
            for batch in self.batches:
                empty = False
                yield batch
            if empty:
                raise ValueError("the training data are fewer than a batch, and smaller batches are left out")

    def __len__(self) -> int:
        return len(self.batches)


def read_numbered(dataset: Dataset, seed: int, rank: int, batch: NumberedBatch) -> object:
    """Reads a batch of a data set in the random state that its number, the run's seed and the process's rank decide.

    With the first three arguments bound it is what an instance has as ``__getitems__``, by which torch's loaders ask
    for whole batches.
    """
    number, indices = batch
    seed_generators(seed, number, rank, 1)  # the hook that seeds the training's iterations takes the first three
    return read_together(dataset, indices) if reads_together(dataset) else [dataset[index] for index in indices]


@LOOPS.register_module()
class ResumableIterLoop(IterBasedTrainLoop):
    """mmengine's ``IterBasedTrainLoop``, with its arguments, over :class:`NumberedBatches`.

    Workers start with the first batch that is trained on, when it is known which that is. A resumed run reads no
    image of an earlier one, and is bit-equal to an uninterrupted one.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict[str, object],
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        if not isinstance(dataloader, dict):
            raise TypeError("ResumableIterLoop needs the config of its data loader, not a loader")
        apart = runner._randomness_cfg.get("diff_rank_seed", False)  # as mmengine's loops ask
        loader = runner.build_dataloader(_numbered(dataloader), seed=runner.seed, diff_rank_seed=apart)
        loader.dataset.__getitems__ = partial(read_numbered, loader.dataset, runner.seed, get_rank())
        stream = _Stream(loader)
        super().__init__(runner, stream, max_iters, val_begin, val_interval, dynamic_intervals)
        self.dataloader, self.dataloader_iterator = loader, stream

    def run(self) -> torch.nn.Module:
        """Trains from the runner's iteration on."""
        self.dataloader_iterator.begin(self._iter)
        return super().run()


class _Stream:
    """A loader's batches from a number on; in place of those before it, which mmengine's loop skips, there is None."""

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self.dataset = loader.dataset  # mmengine's loop reads its metainfo
        self._skipped = 0
        self._batches: Iterator[Sequence[dict]] | None = None

    def begin(self, number: int) -> None:
        self.loader.batch_sampler.start = self._skipped = number

    def __iter__(self) -> Iterator[Sequence[dict] | None]:
        return self

    def __next__(self) -> Sequence[dict] | None:
        if self._skipped:
            self._skipped -= 1
            return None
        if self._batches is None:
            self._batches = iter(self.loader)
        return next(self._batches)


def _numbered(dataloader: dict[str, object]) -> ConfigDict:
    settings = ConfigDict(dataloader)
    inner = {key: settings.pop(key) for key in ("drop_last", "batch_sampler") if key in settings}
    return ConfigDict(settings, batch_sampler=dict(type="NumberedBatches", **inner))
