"""The module that stands in for ``mmcv._ext``: operators served here, and an answer for those that are not.

The import hook executes this file under the name ``mmcv._ext``. Every function has the name, the argument
names and their order, and the in-place buffers of the compiled operator of mmcv 2.x, on CPU and CUDA. Where
CPU and CUDA builds of mmcv differ, or leave a case undefined, the function's docstring says what is done
here.
"""

from collections.abc import Callable
from typing import NoReturn

import torch
import torchvision

from fvnet_mm.ops.deform_conv import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
)
from fvnet_mm.ops.focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from fvnet_mm.ops.modulated_deform_conv import modulated_deform_conv_backward, modulated_deform_conv_forward
from fvnet_mm.ops.nms import nms, nms_match, softnms
from fvnet_mm.ops.roi_align import roi_align_backward, roi_align_forward
from fvnet_mm.ops.roi_pool import roi_pool_backward, roi_pool_forward

__all__ = [
    "deform_conv_backward_input",
    "deform_conv_backward_parameters",
    "deform_conv_forward",
    "get_compiler_version",
    "get_compiling_cuda_version",
    "modulated_deform_conv_backward",
    "modulated_deform_conv_forward",
    "nms",
    "nms_match",
    "roi_align_backward",
    "roi_align_forward",
    "roi_pool_backward",
    "roi_pool_forward",
    "sigmoid_focal_loss_backward",
    "sigmoid_focal_loss_forward",
    "softmax_focal_loss_backward",
    "softmax_focal_loss_forward",
    "softnms",
]


def get_compiler_version() -> str:
    """What serves the operators, which mmcv's environment report prints in place of its compiler."""
    return f"n/a (operators served by torchvision {torchvision.__version__})"


def get_compiling_cuda_version() -> str:
    """The CUDA version that PyTorch, and with it torchvision's operators, was built with."""
    return torch.version.cuda or "not available"


def __getattr__(name: str) -> Callable[..., NoReturn]:
    """Stands in for an operator that is not served: mmcv may import it, and calling it raises.

    mmcv looks up every operator of a file when the file is imported, also those that the model never calls; a
    refusal at that moment would take the served ones away as well.

    Args:
        name: Name of an operator of compiled mmcv.

    Returns:
        A function of any arguments that raises NotImplementedError with the operator's name.

    Raises:
        AttributeError: ``name`` begins with an underscore, which no operator's name does.
    """
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def not_served(*args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError(
            f"mmcv's operator {name!r} needs compiled mmcv, which is not installed: replace mmcv-lite by the "
            "'mmcv' wheel built for your PyTorch and CUDA versions, or build mmcv from source with "
            "MMCV_WITH_OPS=1 (see 'Installation' in mmcv's documentation); its operators are then used "
            "instead of fvnet_mm's."
        )

    not_served.__name__ = not_served.__qualname__ = name
    return not_served
