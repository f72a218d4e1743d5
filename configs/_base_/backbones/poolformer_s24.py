backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/poolformer_s24.sail_in1k/resolve/main/model.safetensors",
    license="apache-2.0",
    distilled=False,
    epochs=300,
    top1=80.3,
    source="top-1: README of sail-sg/poolformer; epochs: arXiv:2111.11418",
)
backbone = dict(
    type="TimmBackbone",
    model_name="poolformer_s24",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (64, 128, 320, 512)
