"""Backbones, registered in mmengine's root registry, so that mmdet, mmseg and mmpretrain all find them.

FVNet depends on torch, mmcv and mmengine only; its files work when copied into another repository. Where timm is
installed, the FVNets are timm models too. Trunks of timm and mmpretrain exist where these are installed.
"""

from importlib.util import find_spec

from . import ablation as ablation
from .arch import FVNetArch
from .ftfu import FTFU, closed_form_step
from .fvnet import FVNet
from .mpfb import MPFB, Phase

if find_spec("timm") is not None:
    from . import timm_models as timm_models
    from .position_bias import make_any_size as make_any_size
    from .timm_backbone import TimmBackbone as TimmBackbone
if find_spec("mmpretrain") is not None:
    from .mobilenet import SuiteMobileNetV2 as SuiteMobileNetV2
    from .mobilenet import SuiteMobileNetV3 as SuiteMobileNetV3
if find_spec("timm") is not None and find_spec("mmpretrain") is not None:
    from .efficientformer import SuiteEfficientFormer as SuiteEfficientFormer

__all__ = ["FTFU", "MPFB", "FVNet", "FVNetArch", "Phase", "closed_form_step"]
