import random
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler

from fvnet_mm.engine import epochs
from fvnet_mm.engine.epochs import ResumableEpochLoop, loader_from, position, read_seeded


class Draws(Dataset):
    """Samples that say which one they are and what each generator drew for them."""

    def __len__(self) -> int:
        return 11

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return index, random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002


def draws(workers: int = 0, epoch: int = 1, first: int = 0, shuffle: int = 0) -> list[tuple]:
    """All samples of an epoch from a batch on."""
    dataset = Draws()
    dataset.__getitems__ = partial(read_seeded, dataset, 7, epoch, None)
    order = RandomSampler(dataset, generator=torch.Generator().manual_seed(shuffle))
    loader = DataLoader(dataset, batch_sampler=BatchSampler(order, 2, False), num_workers=workers, collate_fn=list)
    loader = loader_from(loader, first) if first else loader
    return [sample for batch in loader for sample in batch]


def test_a_sample_draws_what_seed_epoch_and_number_decide() -> None:
    alone = draws()
    assert draws(workers=2) == alone
    assert sorted(draws(shuffle=1)) == sorted(alone)
    other = {sample[0]: sample[1:] for sample in draws(epoch=2)}
    assert all(set(sample[1:]).isdisjoint(other[sample[0]]) for sample in alone)
    assert len({value for sample in alone for value in sample[1:]}) == 3 * 11


@settings(max_examples=20, deadline=None)
@given(first=st.integers(0, 6))
def test_an_epoch_is_entered_at_any_batch(first: int) -> None:
    assert draws(first=first) == draws()[2 * first :]


class Thrice(Sampler):
    """Every sample three times in a row, as repeated augmentation asks for them."""

    def __iter__(self) -> Iterator[int]:
        return iter([index for index in range(11) for _ in range(3)])

    def __len__(self) -> int:
        return 33


def trained_on(rank: int = 0, workers: int = 0, done: int = 0, batch: int = 4) -> list[tuple]:
    """The samples of an epoch from an iteration on, in the loop."""
    samples = []

    class Loop(ResumableEpochLoop):
        def run_iter(self, index: int, batch: list[tuple]) -> None:
            samples.extend(batch)

    dataset = Draws()
    dataset.metainfo = {}
    loader = DataLoader(
        dataset, batch_sampler=BatchSampler(Thrice(), batch, False), num_workers=workers, collate_fn=list
    )
    wrapper = SimpleNamespace(initialize_count_status=lambda *words: None)
    stub = SimpleNamespace(
        call_hook=lambda name: None,
        seed=7,
        model=torch.nn.Identity(),
        optim_wrapper=wrapper,
        visualizer=SimpleNamespace(),
    )
    loop = Loop(stub, loader, max_epochs=1)
    loop._iter = done
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epochs, "get_rank", lambda: rank)
        loop.run_epoch()
    return samples


def test_a_sample_that_comes_again_draws_anew() -> None:
    first = trained_on()
    assert [sample[0] for sample in first] == list(Thrice())
    assert len({value for sample in first for value in sample[1:]}) == 3 * 33
    assert trained_on(workers=2) == first
    assert trained_on(done=3) == first[12:]
    assert {sample[1] for sample in trained_on(rank=1)}.isdisjoint(sample[1] for sample in first)


def test_what_is_left_out_is_not_read() -> None:
    read: list[int] = []

    class Noting(Draws):
        def __getitem__(self, index: int) -> int:
            read.append(index)
            return index

    loader = DataLoader(Noting(), batch_size=2)
    later = loader_from(loader, 4)
    assert len(later) == 2
    assert [batch.tolist() for batch in later] == [[8, 9], [10]]
    assert read == [8, 9, 10]


def runner(batch: int, devices: int, told: list[str]) -> SimpleNamespace:
    cfg = SimpleNamespace(train_dataloader=SimpleNamespace(batch_size=batch))
    logger = SimpleNamespace(warning=told.append)
    return SimpleNamespace(cfg=cfg, world_size=devices, logger=logger, visualizer=SimpleNamespace())


def test_an_epoch_is_entered_only_by_iterations_of_as_many_images() -> None:
    """Two devices with batches of 2 left it after three; four see as many images with batches of 1, not of 2."""
    meta = position(runner(2, 2, []), 3)
    for batch, iteration, words in ((1, 2 * 6 + 3, []), (2, 2 * 6, ["an iteration had 4 images: epoch 3 begins anew"])):
        told: list[str] = []
        dataset = Draws()
        dataset.metainfo = {}
        loop = ResumableEpochLoop(runner(batch, 4, told), DataLoader(dataset, batch_size=2), max_epochs=9)
        loop._epoch = 2
        loop.enter(meta)
        assert (loop.iter, told) == (iteration, words)
