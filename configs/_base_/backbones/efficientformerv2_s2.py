backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/efficientformerv2_s2.snap_dist_in1k/resolve/main/model.safetensors",
    license="apache-2.0",
    distilled=True,
    epochs=450,
    top1=82.0,
    source="README of snap-research/EfficientFormer; epochs: its row nearest to timm's own result, 82.156",
)
backbone = dict(
    type="TimmBackbone",
    model_name="efficientformerv2_s2",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (32, 64, 144, 288)
