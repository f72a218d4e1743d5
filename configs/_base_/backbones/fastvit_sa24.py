backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://huggingface.co/timm/fastvit_sa24.apple_in1k/resolve/main/model.safetensors",
    license="fastvit-license",
    distilled=False,
    epochs=None,
    top1=82.7,
    resolution=256,
    source="README of apple/ml-fastvit, models without distillation",
)
backbone = dict(
    type="TimmBackbone",
    model_name="fastvit_sa24",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (64, 128, 256, 512)
