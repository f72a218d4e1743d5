backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/starnet_s4.in1k/resolve/main/model.safetensors",
    license="apache-2.0",
    distilled=False,
    epochs=None,
    top1=78.8,
    source="README of ma-xu/Rewrite-the-Stars, imagenet",
)
backbone = dict(
    type="TimmBackbone",
    model_name="starnet_s4",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (32, 64, 128, 256)
