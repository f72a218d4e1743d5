# Semantic FPN that trains in a second on a CPU: a trunk of four blocks, images of 32 pixels, no dropout, no flips.
_base_ = ["../../configs/semantic_fpn_fvnet_t_ade20k.py"]
channels = [8, 8, 16, 16]
norm = dict(type="SyncBN", requires_grad=True)
model = dict(
    data_preprocessor=dict(size=(32, 32)),
    backbone=dict(_delete_=True, type="FVNet", arch=dict(channels=channels, depths=(1, 1, 1, 1)), norm_cfg=norm),
    neck=dict(in_channels=channels, out_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16, dropout_ratio=0.0),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="Resize", scale=(32, 32), keep_ratio=False),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(32, 32), keep_ratio=False),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(batch_size=4, num_workers=1, persistent_workers=False, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
iterations = 12
train_cfg = dict(max_iters=iterations, val_interval=iterations)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-6, begin=0, end=iterations, by_epoch=False)]
optim_wrapper = dict(optimizer=dict(lr=5e-3))
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=iterations))
log_processor = dict(window_size=1)
