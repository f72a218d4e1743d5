_base_ = ["./_base_/upernet_ade20k.py", "./_base_/backbones/fvnet_n.py"]

model = dict(
    backbone=dict(_base_.backbone, out_indices=_base_.levels),
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[2]),
)
