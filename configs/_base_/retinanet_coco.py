# RetinaNet 1x on COCO 2017. Model and data are mmdet's own; what is written here is what published tables of
# small backbones change: AdamW at 1e-4, and a neck that takes strides 8, 16 and 32 from the backbone.
_base_ = [
    "mmdet::_base_/models/retinanet_r50_fpn.py",
    "mmdet::_base_/datasets/coco_detection.py",
    "mmdet::_base_/schedules/schedule_1x.py",
    "./runtime.py",
]
levels = (1, 2, 3)  # stages that the neck reads; with stride 4 left out, no parameter goes without a gradient
model = dict(backbone=dict(_delete_=True), neck=dict(start_level=0))
optim_wrapper = dict(optimizer=dict(_delete_=True, type="AdamW", lr=1e-4, weight_decay=1e-4))
# Workers that start anew with every epoch, seeded from its number, make a resumed run equal an uninterrupted one.
train_dataloader = dict(persistent_workers=False, worker_init_fn=dict(type="seed_worker"))
