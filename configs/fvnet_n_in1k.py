_base_ = ["./_base_/in1k.py", "./_base_/backbones/fvnet_n.py"]

model = dict(
    backbone=dict(_base_.backbone, out_indices=_base_.levels, drop_path_rate=0.0),
    head=dict(in_channels=_base_.channels[_base_.levels[-1]]),
)
