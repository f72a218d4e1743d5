backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/resnet50.tv_in1k/resolve/main/model.safetensors",
    license="bsd-3-clause",
    distilled=False,
    epochs=90,
    top1=76.13,
    source="torchvision, ResNet50_Weights.IMAGENET1K_V1; epochs: its references/classification",
)
backbone = dict(
    type="TimmBackbone",
    model_name="resnet50",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (256, 512, 1024, 2048)
