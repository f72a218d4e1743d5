# How all four frameworks are trained on the shapes benchmark, from random weights.
epochs = 10
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=epochs // 2)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=1, end=epochs, convert_to_iter_based=True),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=5e-4, weight_decay=0.05),
    # No decay of norms nor of time constants.
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={"log_tau": dict(decay_mult=0.0)}),
    clip_grad=dict(max_norm=5.0),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
