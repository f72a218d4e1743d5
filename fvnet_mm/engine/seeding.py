"""Random states that a place in the training decides, for whatever reads its data."""

import random
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

NumberedBatch = tuple[int, list[int]]
"""A batch's number in the training or in an epoch, and the indices of its samples."""


def seed_generators(*words: int, gpus: bool = False) -> None:
    """Seeds Python's, numpy's and torch's generators with some whole numbers, each of which matters.

    Args:
        *words: The numbers.
        gpus: Whether to seed those of the GPUs, too, which a worker lacks.
    """
    seed_alike(int(np.random.SeedSequence(words).generate_state(1)[0]), gpus)


def seed_alike(seed: int, gpus: bool) -> None:
    """Seeds Python's, numpy's and torch's generators with one number, those of the GPUs, too, if wanted."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (the libraries' transforms draw from the global generator)
    if gpus:
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def reads_together(dataset: Dataset) -> bool:
    """Whether a data set reads and augments the samples of a batch together, and has no other way."""
    return hasattr(type(dataset), "__getitems__")


def read_together(dataset: Dataset, indices: Sequence[int]) -> object:
    """A batch of such a data set, past the attribute of the instance with which a loop takes its place."""
    return type(dataset).__getitems__(dataset, indices)
