# Mask R-CNN on the shapes benchmark, from scratch: mmdet's own with half the channels in neck and heads and a quarter
# of the regions, and anchors from 16 pixels on, since images are not enlarged.
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "./datasets/shapes_detection.py",
    "./schedules/shapes.py",
    "./runtime.py",
]
from_scratch = True
levels = (0, 1, 2, 3)  # stages that the neck reads
width, regions, classes = 128, 256, len(_base_.metainfo.classes)
model = dict(
    backbone=dict(_delete_=True),
    neck=dict(out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width),
        bbox_head=dict(in_channels=width, fc_out_channels=512, num_classes=classes),
        mask_roi_extractor=dict(out_channels=width),
        mask_head=dict(in_channels=width, conv_out_channels=width, num_convs=2, num_classes=classes),
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=regions), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(max_per_img=regions)),
)
with_masks = dict(type="LoadAnnotations", with_bbox=True, with_mask=True)
train_dataloader = dict(
    dataset=dict(dataset=dict(pipeline=[_base_.train_pipeline[0], with_masks, _base_.train_pipeline[2]]))
)
test_pipeline = [*_base_.test_pipeline[:2], with_masks, _base_.test_pipeline[3]]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=["bbox", "segm"])
test_evaluator = val_evaluator
