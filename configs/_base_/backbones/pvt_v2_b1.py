backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/pvt_v2_b1.in1k/resolve/main/model.safetensors",
    license="apache-2.0",
    distilled=False,
    epochs=300,
    top1=78.7,
    source="arXiv:2106.13797",
)
backbone = dict(
    type="TimmBackbone",
    model_name="pvt_v2_b1",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (64, 128, 320, 512)
