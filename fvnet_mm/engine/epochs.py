"""Epochs that can be left and entered at any iteration, and give the same whatever the number of workers."""

from collections.abc import Iterator, Sequence

from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import BatchSampler, DataLoader, Dataset

from fvnet_mm.engine.seeding import read_together, reads_together, seed_generators


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs, which a resumed run enters where its checkpoint left it.

    The batches before that place are drawn from the sampler and not read. What the others hold depends on none of
    them: every sample is drawn from random generators of its own, seeded by the run's seed, the epoch's number and the
    sample's (:class:`SeededSamples`). So augmentation is the same, too, with any number of workers or processes.
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
        dataset = self.dataloader.dataset
        if not self.dataloader.persistent_workers:  # they would stay with their first epoch's
            dataset.__getitems__ = SeededSamples(dataset, self.runner.seed, self._epoch)
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        loader = self.dataloader
        if done:
            loader = loader_from(loader, done)
            self.runner.optim_wrapper.initialize_count_status(self.runner.model, done, len(self.dataloader))
        for index, batch in enumerate(loader, done):
            self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


def position(runner: Runner, done: int) -> dict[str, int]:
    """What a checkpoint's ``meta`` says of its place within an epoch, after ``done`` iterations of it."""
    images = runner.cfg.train_dataloader.batch_size * runner.world_size
    return dict(epoch_iterations=done, images_per_iteration=images)


class SeededSamples:
    """Reads samples, each with generators seeded for it; or batches, of a data set that reads them as a whole.

    As the attribute ``__getitems__`` of a data set it is what torch's loaders ask for the samples of a batch.

    Args:
        dataset: What the samples are read from.
        seed: Of the run.
        epoch: The number of the epoch; another one augments in other ways.
    """

    def __init__(self, dataset: Dataset, seed: int, epoch: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.epoch = epoch

    def __call__(self, indices: Sequence[int]) -> object:
        if reads_together(self.dataset):
            seed_generators(self.seed, self.epoch, *indices)
            return read_together(self.dataset, indices)
        return [self._sample(index) for index in indices]

    def _sample(self, index: int) -> object:
        seed_generators(self.seed, self.epoch, index)
        return self.dataset[index]


class _From(BatchSampler):
    """The batches of a batch sampler without the first ones."""

    def __init__(self, batches: BatchSampler, first: int) -> None:
        self.batches = batches
        self.first = first

    def __iter__(self) -> Iterator[list[int]]:
        for number, batch in enumerate(self.batches):
            if number >= self.first:
                yield batch

    def __len__(self) -> int:
        return len(self.batches) - self.first


def loader_from(loader: DataLoader, first: int) -> DataLoader:
    """A loader of the same batches from number ``first`` on; those before are not read."""
    return DataLoader(
        loader.dataset,
        batch_sampler=_From(loader.batch_sampler, first),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
    )
