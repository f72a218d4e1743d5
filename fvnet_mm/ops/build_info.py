"""What mmcv's environment report prints in place of the compilers of its operators."""

import torch
import torchvision


def get_compiler_version() -> str:
    """Returns what serves the operators, in the place of the compiler that mmcv was built with."""
    return f"n/a (operators served by torchvision {torchvision.__version__})"


def get_compiling_cuda_version() -> str:
    """Returns the CUDA version that PyTorch, and with it torchvision's operators, was built with."""
    return torch.version.cuda or "not available"
