"""The floating-point type that operators compute in."""

import torch
from torch import Tensor


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Returns the type to compute in: float64 if any of the tensors has it, float32 otherwise.

    torchvision's CPU kernels know no bfloat16 and only some know float16, and coordinates of a feature map
    lose whole pixels in either. Half-precision inputs are therefore computed in float32 and the results cast
    back.
    """
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def as_float32(number: float) -> float:
    """Rounds a number to float32, the type in which compiled mmcv receives thresholds.

    An overlap of exactly 3/10 is not above the threshold 0.3 if both are float32, but is if the threshold is
    float64.
    """
    return torch.tensor(number, dtype=torch.float32).item()
