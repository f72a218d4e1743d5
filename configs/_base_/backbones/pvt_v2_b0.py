backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/pvt_v2_b0.in1k/resolve/main/model.safetensors",
    license="apache-2.0",
    distilled=False,
    epochs=300,
    top1=70.5,
    source="arXiv:2106.13797",
)
backbone = dict(
    type="TimmBackbone",
    model_name="pvt_v2_b0",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (32, 64, 160, 256)
