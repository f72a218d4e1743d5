# Pretraining on ImageNet-1k: 300 epochs at 224 from random weights, batch 1024. Data and schedule are mmpretrain's own
# for Swin (AdamW at 1e-3, 20 epochs of warm-up, cosine; RandAugment, random erasing; test images of 256 cropped to 224,
# the classical ratio of 0.875); mixup, CutMix and label smoothing are those of its Swin models.
_base_ = [
    "mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py",
    "mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py",
    "./runtime.py",
]
default_scope = "mmpretrain"
levels = (3,)  # stages that the neck reads
from_scratch = True  # another --backbone starts from random weights, too, and not from its published ones
model = dict(
    type="mmpretrain.ImageClassifier",
    data_preprocessor=dict(type="ClsDataPreprocessor", **_base_.data_preprocessor),
    backbone=dict(),  # the leaves' drop path rates grow with the network by choice, not by search
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=_base_.data_preprocessor.num_classes,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    ),
    train_cfg=dict(augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]),
)
# Eight devices of 128. Workers that start anew make a resumed run equal an uninterrupted one: ./retinanet_coco.py.
train_dataloader = dict(batch_size=128, persistent_workers=False, worker_init_fn=dict(type="seed_worker"))

# Evaluated and kept is a moving average of the weights, with the running statistics of their batch norms. It reaches
# back over a tenth of the steps so far, and no more than 10,000 steps: short runs are served, too.
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="StepEMAHook", ema_type="MomentumAnnealingEMA", momentum=1e-4, gamma=10, update_buffers=True),
]
visualizer = dict(type="UniversalVisualizer")
