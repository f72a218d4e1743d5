# Semantic FPN on the shapes benchmark, from scratch: mmseg's own with half the channels in its neck.
_base_ = [
    "mmseg::_base_/models/fpn_r50.py",
    "./datasets/shapes_segmentation.py",
    "./schedules/shapes.py",
    "./runtime.py",
]
default_scope = "mmseg"
visualizer = dict(type="SegLocalVisualizer")
from_scratch = True
levels = (0, 1, 2, 3)  # stages that the neck reads
width = 128
model = dict(
    pretrained=None,
    data_preprocessor=dict(size_divisor=32),
    backbone=dict(_delete_=True),
    neck=dict(out_channels=width),
    decode_head=dict(in_channels=[width] * len(levels), num_classes=len(_base_.metainfo.classes)),
)
