"""Errors that say that memory does not suffice."""

from __future__ import annotations

import re


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had, of a GPU or of the machine.

    Most systems kill a process that needs more of the machine's than there is, and no error says so then.
    """
    texts = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in texts)


def allocation_in_words(error: BaseException) -> str:
    """What of an error about memory a user needs: how much was asked for, how much there is, and who holds it."""
    # The allocator's advice after these is about fragments, and a CUDA error's about debugging.
    first = next(iter(str(error).splitlines()), "") or type(error).__name__
    sentences = re.split(r"\. (?=[A-Z])", first.strip())
    facts = ("out of memory", "ried to allocate", "total capacity", "this process has")
    told = [sentence.rstrip(".") for sentence in sentences if any(fact in sentence for fact in facts)]
    return ". ".join(told or sentences[:1])
