backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://download.openmmlab.com/mmclassification/v0/efficientformer/efficientformer-l1_3rdparty_in1k_20220915-cc3e1ac6.pth",
    license="apache-2.0",
    distilled=True,
    epochs=1000,
    top1=80.46,
    source="top-1: mmpretrain model zoo; epochs: README of snap-research/EfficientFormer; distilled: arXiv:2206.01191",
)
backbone = dict(
    type="SuiteEfficientFormer",
    arch="l1",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (48, 96, 224, 448)
