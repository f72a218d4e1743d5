# Mask R-CNN 1x on COCO 2017. Model, data and schedule are mmdet's own; what is written here is what published tables
# of small backbones change: AdamW at 2e-4 with a decay of 0.05 (EfficientFormerV2, RepViT).
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "mmdet::_base_/datasets/coco_instance.py",
    "mmdet::_base_/schedules/schedule_1x.py",
    "./runtime.py",
]
levels = (0, 1, 2, 3)  # stages that the neck reads
model = dict(backbone=dict(_delete_=True))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=2e-4, weight_decay=0.05),
    # A decay of 0.05 would pull time constants towards 1; other trunks have no such parameter.
    paramwise_cfg=dict(custom_keys={"log_tau": dict(decay_mult=0.0)}),
)
# Workers that start anew with every epoch, seeded from its number, make a resumed run equal an uninterrupted one.
train_dataloader = dict(persistent_workers=False, worker_init_fn=dict(type="seed_worker"))
