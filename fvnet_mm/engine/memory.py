"""Errors that say that memory does not suffice."""

from __future__ import annotations

import re

_TEXTS = ("out of memory", "allocate memory", "unable to allocate", "not enough memory", "bad_alloc")
_TEXTS += ("alloc_failed", "allocation_failed", "invalid buffer size")
"""What PyTorch, CUDA's libraries, MPS, NumPy and C++ say, in lower case."""

_FACTS = ("out of memory", "Tried to allocate", "total capacity", "this process has")
"""Of the sentences of PyTorch's allocator for GPUs, those that speak of now; others advise on fragments."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had, of a GPU or of the machine.

    Most systems kill a process that needs more of the machine's than there is, and no error says so then.
    """
    return isinstance(error, MemoryError) or _speaks_of_it(str(error))


def allocation_in_words(error: BaseException) -> str:
    """What of an error about memory a user needs: what was asked for, what there is and what this process has."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = next(filter(_speaks_of_it, lines), lines[0])  # that of a worker comes with its traceback
    line = line[max(line.find("DefaultCPUAllocator"), 0) :]  # without the place in its source
    if "out of memory" not in line:
        return line
    sentences = re.split(r"\. (?=[A-Z])", line)
    return ". ".join(each.rstrip(".") for each in sentences if any(fact in each for fact in _FACTS))


def _speaks_of_it(text: str) -> bool:
    return any(each in text.lower() for each in _TEXTS)
