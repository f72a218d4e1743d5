backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://download.openmmlab.com/mmclassification/v0/mobilenet_v3/convert/mobilenet_v3_large-3ea3c186.pth",
    license="bsd-3-clause",
    distilled=False,
    epochs=600,
    top1=74.04,
    source="top-1: mmpretrain model zoo; epochs: torchvision, references/classification, whose weights these are",
)
backbone = dict(
    type="SuiteMobileNetV3",
    arch="large",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (24, 40, 112, 160)
