backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/mobileone_s1.apple_in1k/resolve/main/model.safetensors",
    license="mobileone-license",
    distilled=False,
    epochs=None,
    top1=75.9,
    source="README of apple/ml-mobileone",
)
backbone = dict(
    type="TimmBackbone",
    model_name="mobileone_s1",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (96, 192, 512, 1280)
