backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/mambaout_femto.in1k/resolve/main/model.safetensors",
    license="apache-2.0",
    distilled=False,
    epochs=None,
    top1=78.9,
    source="README of yuweihao/MambaOut",
)
backbone = dict(
    type="TimmBackbone",
    model_name="mambaout_femto",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (48, 96, 192, 288)
