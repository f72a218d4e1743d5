"""Errors about memory, told from others and shortened to what a user needs."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from fvnet_mm.engine.building import building
from fvnet_mm.engine.memory import allocation_in_words, is_out_of_memory
from fvnet_mm.errors import UserError

ALLOCATOR = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.18 GiB of which 3.81 MiB is "
    "free. Process 935 has 66.00 MiB memory in use. Process 604 has 4.26 GiB memory in use. Including non-PyTorch "
    "memory, this process has 1.81 GiB memory in use. Of the allocated memory 1.11 GiB is allocated by PyTorch, with "
    "571.92 MiB allocated in private pools (e.g., CUDA Graphs), and 17.78 MiB is reserved by PyTorch but unallocated."
)
DRIVER = (
    "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in https://docs.nvidia.com/cuda/"
    "for more information.\nCUDA kernel errors might be asynchronously reported at some other "
    "API call, so the stacktrace below might be incorrect.\n"
)


def test_what_a_gpu_says() -> None:
    """Both as torch 2.11 said them on a GPU that was full."""
    error = torch.OutOfMemoryError(ALLOCATOR)
    assert is_out_of_memory(error)
    assert allocation_in_words(error) == (
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.18 GiB of which 3.81 MiB is "
        "free. Including non-PyTorch memory, this process has 1.81 GiB memory in use"
    )
    assert is_out_of_memory(RuntimeError(DRIVER))
    assert allocation_in_words(RuntimeError(DRIVER)) == "CUDA error: out of memory"


def test_what_the_machine_says() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    words = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1152921504606846976 bytes"
    assert allocation_in_words(caught.value).startswith(words)
    with pytest.raises(MemoryError) as caught:
        np.empty((2**58,), np.uint8)
    assert is_out_of_memory(caught.value)
    assert allocation_in_words(caught.value) == str(caught.value)
    assert allocation_in_words(MemoryError()) == "MemoryError"


def test_what_a_worker_says() -> None:
    loader = DataLoader([0], num_workers=1, collate_fn=lambda _: torch.empty(2**60, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="Caught RuntimeError in DataLoader worker") as caught:
        next(iter(loader))
    assert is_out_of_memory(caught.value)
    assert allocation_in_words(caught.value).startswith("DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB, max allowed: 9.07 GB).",
        "std::bad_alloc",
    ],
)
def test_what_others_say(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    assert text.startswith(allocation_in_words(RuntimeError(text)))


@pytest.mark.parametrize(
    "text",
    [
        "mat1 and mat2 shapes cannot be multiplied (4x8 and 16x4)",
        "CUDA error: an illegal memory access was encountered",
        "out of resource: shared memory, Required: 262144, Hardware limit: 232448.",
        "",
    ],
)
def test_what_is_no_want_of_memory(text: str) -> None:
    assert not is_out_of_memory(RuntimeError(text))


def test_a_model_that_does_not_fit() -> None:
    sentence = r"memory does not suffice to build the model of the config \(DefaultCPUAllocator.*you tried to allocate"
    with pytest.raises(UserError, match=sentence), building("model"):
        torch.nn.Conv2d(2**15, 2**40, 3)


@pytest.mark.gpu
def test_a_real_gpu_says_it() -> None:
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2**50, dtype=torch.uint8, device="cuda")
    assert is_out_of_memory(caught.value)
    assert allocation_in_words(caught.value).startswith(
        "CUDA out of memory. Tried to allocate 1048576.00 GiB. GPU 0 has"
    )
