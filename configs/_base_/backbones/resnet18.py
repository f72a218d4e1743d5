backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/resnet18.tv_in1k/resolve/main/model.safetensors",
    license="bsd-3-clause",
    distilled=False,
    epochs=90,
    top1=69.758,
    source="torchvision, ResNet18_Weights.IMAGENET1K_V1; epochs: its references/classification",
)
backbone = dict(
    type="TimmBackbone",
    model_name="resnet18",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (64, 128, 256, 512)
