"""Batches that have numbers, beside those that mmengine's loop would have read over again."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.runner import Runner
from torch.utils.data import Dataset

from fvnet_mm.engine.iteration_loop import ResumableIterLoop
from fvnet_mm.engine.runner import resumable


class Numbers(Dataset):
    """An item is its index and what is drawn when it is read."""

    def __init__(self) -> None:
        self.metainfo: dict[str, object] = {}
        self.read: list[int] = []

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> tuple[int, float, float]:
        self.read.append(index)
        return index, float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    def __deepcopy__(self, memo: dict) -> "Numbers":
        return self


def loop(dataset: Numbers, workers: int = 0, **settings: object) -> ResumableIterLoop:
    runner = SimpleNamespace(
        seed=3, _randomness_cfg={}, visualizer=SimpleNamespace(), build_dataloader=Runner.build_dataloader
    )
    loader = dict(dataset=dataset, batch_size=2, num_workers=workers, sampler=dict(type=InfiniteSampler))
    return ResumableIterLoop(runner, loader | settings, max_iters=12)


def batches(made: ResumableIterLoop, start: int, end: int = 12) -> list[list]:
    """What the loop trains on from an iteration on."""
    made.dataloader_iterator.begin(start)
    assert [next(made.dataloader_iterator) for _ in range(start)] == [None] * start  # as mmengine's run() does
    return [next(made.dataloader_iterator) for _ in range(start, end)]


@pytest.mark.parametrize("start", [1, 5, 11])
@pytest.mark.parametrize("sampler", [InfiniteSampler, DefaultSampler])
def test_a_resumed_loop_reads_what_is_left_and_nothing_else(start: int, sampler: type) -> None:
    settings = dict(sampler=dict(type=sampler, shuffle=True))
    whole, resumed = Numbers(), Numbers()
    expected = batches(loop(whole, **settings), 0)
    torch.rand(3)  # whatever was drawn before
    assert batches(loop(resumed, **settings), start) == expected[start:]
    skipped = sum(len(batch[0]) for batch in expected[:start])
    assert resumed.read == whole.read[skipped:]
    assert len({value for batch in expected for value in batch[1]}) == len(whole.read)  # no two draw the same


def test_workers_change_nothing() -> None:
    assert batches(loop(Numbers(), workers=1), 5) == batches(loop(Numbers()), 0)[5:]


def test_its_order_is_that_of_mmengines_loop() -> None:
    dataset = Numbers()
    batches(loop(dataset), 0)
    sampler = iter(InfiniteSampler(dataset, seed=3))
    assert dataset.read == [next(sampler) for _ in range(24)]


def test_the_batch_samplers_of_a_config_are_kept() -> None:
    made = loop(Numbers(), sampler=dict(type=DefaultSampler, shuffle=False), drop_last=True)
    assert [batch[0] for batch in batches(made, 0, 4)] == [(0, 1), (2, 3), (4, 5), (0, 1)]


def test_only_mmengines_own_loops_are_replaced() -> None:
    iterations = dict(type="ResumableIterLoop", max_iters=3)
    assert resumable(dict(type="IterBasedTrainLoop", max_iters=3)) == iterations
    assert resumable(dict(type="mmengine.runner.IterBasedTrainLoop", max_iters=3)) == iterations
    assert resumable(dict(by_epoch=False, max_iters=3)) == iterations
    for epochs in (dict(by_epoch=True), dict(), dict(type="EpochBasedTrainLoop")):
        assert resumable(epochs | dict(max_epochs=2)) == dict(type="ResumableEpochLoop", max_epochs=2)
    for other in (dict(type="Mine", by_epoch=True), None):
        assert resumable(other) == other
