# The shapes benchmark (docs/shapes.md) for segmentors: things and stuff. Training images stay decoded in memory and are
# scaled, cropped to their own size and flipped by the batch on the device.
_base_ = []
import fvnet_mm.data.benchmark.classes as benchmark

data_root = "data/shapes/"
made_with = "python tools/make_shapes.py data/shapes"
metainfo = dict(classes=benchmark.SEMANTIC_CLASSES)
pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="hand_on"),
    dataset=dict(
        type="ResidentDataset",
        flip=0.5,
        zoom=(0.5, 2.0),
        dataset=dict(
            type="BaseSegDataset",
            data_root=data_root,
            data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
            metainfo=metainfo,
            reduce_zero_label=True,
            pipeline=pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="BaseSegDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        metainfo=metainfo,
        reduce_zero_label=True,
        pipeline=pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
