"""Backbones, registered in mmengine's root registry, so that mmdet, mmseg and mmpretrain all find them.

The folder depends on torch, mmcv and mmengine only, and works when copied into another repository. Where timm
is installed, the FVNets are timm models too.
"""

from importlib.util import find_spec

from .arch import FVNetArch
from .ftfu import FTFU, closed_form_step
from .fvnet import FVNet
from .mpfb import MPFB, Phase

if find_spec("timm") is not None:
    from . import timm_models as timm_models

__all__ = ["FTFU", "MPFB", "FVNet", "FVNetArch", "Phase", "closed_form_step"]
