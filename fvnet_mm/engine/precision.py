"""Mixed precision."""

import torch
from mmengine.config import Config

from fvnet_mm.errors import UserError

_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def enable_amp(cfg: Config, precision: str) -> None:
    """Makes training run under autocast in ``precision`` ('bf16' or 'fp16').

    fp16 scales the loss dynamically; bf16 has float32's range and needs no scaling.

    Raises:
        UserError: There is no CUDA device, or it has no bfloat16.
    """
    if not torch.cuda.is_available():
        raise UserError(
            f"--amp {precision} needs a CUDA device and torch sees none; leave --amp away to train in float32."
        )
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(
            f"--amp bf16 is not supported by {torch.cuda.get_device_name()}; use --amp fp16 on this device."
        )
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    cfg.optim_wrapper.dtype = _DTYPES[precision]
    cfg.optim_wrapper.loss_scale = "dynamic" if precision == "fp16" else dict(enabled=False)
