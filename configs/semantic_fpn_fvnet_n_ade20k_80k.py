_base_ = ["./_base_/semantic_fpn_ade20k_80k.py", "./_base_/backbones/fvnet_n.py"]

model = dict(
    backbone=dict(_base_.backbone, out_indices=_base_.levels),
    neck=dict(in_channels=[_base_.channels[level] for level in _base_.levels]),
)
