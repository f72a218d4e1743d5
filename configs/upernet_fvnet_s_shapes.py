_base_ = ["./_base_/upernet_shapes.py", "./_base_/backbones/fvnet_s.py"]

model = dict(
    backbone=dict(_base_.backbone, out_indices=_base_.levels),
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[2]),
)
