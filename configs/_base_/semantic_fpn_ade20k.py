# Semantic FPN, 40k iterations on ADE20K, as published for small backbones (PVT, PoolFormer, RepViT): model and data are
# mmseg's own. The test image is aligned to multiples of 32, as all but a few of these tables do.
_base_ = ["mmseg::_base_/models/fpn_r50.py", "mmseg::_base_/datasets/ade20k.py", "./segmentation_runtime.py"]
levels = (0, 1, 2, 3)  # stages that the neck reads
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(_delete_=True),
    decode_head=dict(num_classes=150),
)
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(2048, 512), keep_ratio=True),
    dict(type="ResizeToMultiple", size_divisor=32),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(batch_size=4, worker_init_fn=dict(type="seed_worker"))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

iterations = 40_000
train_cfg = dict(type="IterBasedTrainLoop", max_iters=iterations, val_interval=4000)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-6, begin=0, end=iterations, by_epoch=False)]
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=2e-4, weight_decay=1e-4))
auto_scale_lr = dict(enable=False, base_batch_size=32)
