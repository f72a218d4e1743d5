# RetinaNet on the shapes benchmark, from scratch: mmdet's own with half the channels and layers in neck and head, so
# that the trunk is most of the network, and anchors from 16 pixels on, since images are not enlarged.
_base_ = [
    "mmdet::_base_/models/retinanet_r50_fpn.py",
    "./datasets/shapes_detection.py",
    "./schedules/shapes.py",
    "./runtime.py",
]
from_scratch = True
levels = (1, 2, 3)  # stages that the neck reads
width = 128
model = dict(
    backbone=dict(_delete_=True),
    neck=dict(start_level=0, out_channels=width),
    bbox_head=dict(
        num_classes=len(_base_.metainfo.classes),
        in_channels=width,
        feat_channels=width,
        stacked_convs=2,
        anchor_generator=dict(octave_base_scale=2),
    ),
)
