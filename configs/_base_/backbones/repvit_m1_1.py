backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/repvit_m1_1.dist_300e_in1k/resolve/main/model.safetensors",
    license="apache-2.0",
    distilled=True,
    epochs=300,
    top1=80.7,
    source="README of THU-MIG/RepViT",
)
backbone = dict(
    type="TimmBackbone",
    model_name="repvit_m1_1",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (64, 128, 256, 512)
