"""Epochs that can be left and entered at any iteration, and give the same whatever the number of workers."""

from collections.abc import Iterator, Sequence
from functools import partial

from mmengine.dataset import DefaultSampler
from mmengine.dist import get_rank
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import BatchSampler, DataLoader, Dataset

from fvnet_mm.engine.seeding import NumberedBatch, read_together, reads_together, seed_generators


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs, which a resumed run enters where its checkpoint left it.

    The batches before that place are drawn from the sampler and not read. What the others hold depends on none of
    them: every sample is drawn from random generators of its own, seeded by the run's seed, the epoch's number and the
    sample's (:func:`read_seeded`). So augmentation is the same, too, with any number of workers or processes; with
    any number of workers only where a sampler may draw an image several times an epoch, each time augmented anew.
    Workers must start anew each epoch (``persistent_workers=False``, as the suite's configs have it); those that do not
    draw as they would without.
    """

    def enter(self, meta: dict[str, object]) -> None:
        """Goes to where a checkpoint was written, given its ``meta``.

        A place within an epoch means the same only if an iteration has as many images; else the epoch begins anew, with
        a warning.
        """
        done = meta.get("epoch_iterations", 0)
        if done and meta["images_per_iteration"] != position(self.runner, done)["images_per_iteration"]:
            done = 0
            self.runner.logger.warning(
                f"an iteration had {meta['images_per_iteration']} images: epoch {self._epoch + 1} begins anew"
            )
        self._iter = self._epoch * len(self.dataloader) + done

    def run_epoch(self) -> None:
        self.runner.call_hook("before_train_epoch")
        loader = self.dataloader
        dataset = loader.dataset
        done = self._iter - self._epoch * len(loader)
        numbered = False
        if not loader.persistent_workers:  # they would stay with their first epoch's
            numbered = not isinstance(loader.batch_sampler.sampler, DefaultSampler)
            rank = get_rank() if numbered else None
            dataset.__getitems__ = partial(read_seeded, dataset, self.runner.seed, self._epoch, rank)
        self.runner.model.train()
        if done or numbered:
            loader = loader_from(loader, done, numbered)
        if done:
            self.runner.optim_wrapper.initialize_count_status(self.runner.model, done, len(self.dataloader))
        for index, batch in enumerate(loader, done):
            self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


def position(runner: Runner, done: int) -> dict[str, int]:
    """What a checkpoint's ``meta`` says of its place within an epoch, after ``done`` iterations of it."""
    images = runner.cfg.train_dataloader.batch_size * runner.world_size
    return dict(epoch_iterations=done, images_per_iteration=images)


def read_seeded(
    dataset: Dataset, seed: int, epoch: int, rank: int | None, batch: Sequence[int] | NumberedBatch
) -> object:
    """Reads samples, each with generators seeded for it; or a batch, of a data set that reads them as a whole.

    With all arguments but the last bound it is what an instance has as ``__getitems__``, by which torch's loaders ask
    for the samples of a batch.

    Args:
        dataset: What the samples are read from.
        seed: Of the run.
        epoch: The number of the epoch; another one augments in other ways.
        rank: Of the process, where samples may come several times an epoch; the batches are numbered then, and a
            sample's generators are seeded for its place among them, too. None where each comes once.
        batch: The samples' indices, with the batch's number before them where it has one.
    """
    number, indices = (None, batch) if rank is None else batch
    place = () if rank is None else (rank, number)
    if reads_together(dataset):
        seed_generators(seed, epoch, *place, *indices)
        return read_together(dataset, indices)
    samples = []
    for i, index in enumerate(indices):
        seed_generators(seed, epoch, *((*place, i) if place else ()), index)
        samples.append(dataset[index])
    return samples


class _From(BatchSampler):
    """The batches of a batch sampler without the first ones, each with its number if it is asked for."""

    def __init__(self, batches: BatchSampler, first: int, numbered: bool) -> None:
        self.batches = batches
        self.first = first
        self.numbered = numbered

    def __iter__(self) -> Iterator[list[int] | NumberedBatch]:
        for number, batch in enumerate(self.batches):
            if number >= self.first:
                yield (number, batch) if self.numbered else batch

    def __len__(self) -> int:
        return len(self.batches) - self.first


def loader_from(loader: DataLoader, first: int, numbered: bool = False) -> DataLoader:
    """A loader of the same batches from number ``first`` on; those before are not read.

    With ``numbered`` the data set's ``__getitems__`` is asked for pairs of a batch's number and its indices.
    """
    return DataLoader(
        loader.dataset,
        batch_sampler=_From(loader.batch_sampler, first, numbered),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
    )
