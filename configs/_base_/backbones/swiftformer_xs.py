backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/swiftformer_xs.dist_in1k/resolve/main/model.safetensors",
    license="apache-2.0",
    distilled=True,
    epochs=300,
    top1=75.7,
    source="top-1 and distilled: README of Amshaker/SwiftFormer; epochs: arXiv:2303.15446",
)
backbone = dict(
    type="TimmBackbone",
    model_name="swiftformer_xs",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (48, 56, 112, 220)
