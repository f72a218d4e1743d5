backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/edgenext_small.usi_in1k/resolve/main/model.safetensors",
    license="mit",
    distilled=True,
    epochs=None,
    top1=81.07,
    resolution=256,
    source="README of mmaaz60/EdgeNeXt, weights of USI; distilled: arXiv:2204.03475",
)
backbone = dict(
    type="TimmBackbone",
    model_name="edgenext_small",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (48, 96, 160, 304)
