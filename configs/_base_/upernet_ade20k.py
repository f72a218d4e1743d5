# UperNet, 160k iterations on ADE20K, as Swin and its followers (PlainMamba, OverLoCK): model and data are mmseg's own.
_base_ = ["mmseg::_base_/models/upernet_r50.py", "mmseg::_base_/datasets/ade20k.py", "./segmentation_runtime.py"]
levels = (0, 1, 2, 3)  # stages that the heads read
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(_delete_=True),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
train_dataloader = dict(batch_size=2, worker_init_fn=dict(type="seed_worker"))

iterations, warm_up = 160_000, 1500
train_cfg = dict(type="IterBasedTrainLoop", max_iters=iterations, val_interval=16_000)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, begin=0, end=warm_up, by_epoch=False),
    dict(type="PolyLR", power=1.0, eta_min=0.0, begin=warm_up, end=iterations, by_epoch=False),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    # No decay of norms, as Swin's configs have it, nor of time constants.
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={"log_tau": dict(decay_mult=0.0)}),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
