backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/mobilenetv4_conv_small.e2400_r224_in1k/resolve/main/model.safetensors",
    license="apache-2.0",
    distilled=False,
    epochs=2400,
    top1=73.756,
    source="README of timm; epochs: the weights' tag",
)
backbone = dict(
    type="TimmBackbone",
    model_name="mobilenetv4_conv_small",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (32, 64, 96, 960)
