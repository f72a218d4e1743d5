backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://download.openmmlab.com/mmclassification/v0/efficientformer/efficientformer-l3_3rdparty_in1k_20220915-466793d6.pth",
    license="apache-2.0",
    distilled=True,
    epochs=300,
    top1=82.45,
    source="top-1: mmpretrain model zoo; epochs and distilled: arXiv:2206.01191",
)
backbone = dict(
    type="SuiteEfficientFormer",
    arch="l3",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (64, 128, 320, 512)
