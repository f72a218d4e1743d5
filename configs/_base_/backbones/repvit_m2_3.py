backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/repvit_m2_3.dist_450e_in1k/resolve/main/model.safetensors",
    license="apache-2.0",
    distilled=True,
    epochs=450,
    top1=83.7,
    source="README of THU-MIG/RepViT",
)
backbone = dict(
    type="TimmBackbone",
    model_name="repvit_m2_3",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (80, 160, 320, 640)
