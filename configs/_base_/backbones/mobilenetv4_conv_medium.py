backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/mobilenetv4_conv_medium.e500_r224_in1k/resolve/main/model.safetensors",
    license="apache-2.0",
    distilled=False,
    epochs=500,
    top1=79.094,
    source="README of timm; epochs: the weights' tag",
)
backbone = dict(
    type="TimmBackbone",
    model_name="mobilenetv4_conv_medium",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (48, 80, 160, 960)
