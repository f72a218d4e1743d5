backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://download.openmmlab.com/mmclassification/v0/mobilenet_v2/mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth",
    license="apache-2.0",
    distilled=False,
    epochs=300,
    top1=71.86,
    source="mmpretrain model zoo",
)
backbone = dict(
    type="SuiteMobileNetV2",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (24, 32, 96, 320)
