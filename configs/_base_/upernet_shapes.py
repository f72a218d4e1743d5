# UperNet on the shapes benchmark, from scratch: mmseg's own with a quarter of the channels in its heads.
_base_ = [
    "mmseg::_base_/models/upernet_r50.py",
    "./datasets/shapes_segmentation.py",
    "./schedules/shapes.py",
    "./runtime.py",
]
default_scope = "mmseg"
visualizer = dict(type="SegLocalVisualizer")
from_scratch = True
levels = (0, 1, 2, 3)  # stages that the heads read
classes = len(_base_.metainfo.classes)
model = dict(
    pretrained=None,
    data_preprocessor=dict(size_divisor=32),
    backbone=dict(_delete_=True),
    decode_head=dict(channels=128, num_classes=classes),
    auxiliary_head=dict(channels=64, num_classes=classes),
)
