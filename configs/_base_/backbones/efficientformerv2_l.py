backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/efficientformerv2_l.snap_dist_in1k/resolve/main/model.safetensors",
    license="apache-2.0",
    distilled=True,
    epochs=450,
    top1=83.5,
    source="README of snap-research/EfficientFormer; epochs: its row nearest to timm's own result, 83.642",
)
backbone = dict(
    type="TimmBackbone",
    model_name="efficientformerv2_l",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (40, 80, 192, 384)
