# RetinaNet that trains in a second on a CPU: a trunk of four blocks, images of 64 pixels, three epochs.
_base_ = ["../../configs/retinanet_fvnet_t_coco.py"]
channels = [8, 8, 16, 16]
model = dict(
    backbone=dict(
        _delete_=True, type="FVNet", arch=dict(channels=channels, depths=(1, 1, 1, 1)), out_indices=(1, 2, 3)
    ),
    neck=dict(in_channels=channels[1:], out_channels=16),
    bbox_head=dict(in_channels=16, feat_channels=16, stacked_convs=1),
    test_cfg=dict(score_thr=0.001, nms_pre=100, max_per_img=10),
)
scale = (64, 64)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(batch_size=2, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=3)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=3)]
auto_scale_lr = dict(base_batch_size=4)  # two passes an optimizer step
default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
