backbone_name = "{{fileBasenameNoExtension}}"
weights = dict(
    url="https://download.openmmlab.com/mmclassification/v0/efficientformer/efficientformer-l7_3rdparty_in1k_20220915-185e30af.pth",
    license="apache-2.0",
    distilled=True,
    epochs=300,
    top1=83.4,
    source="top-1: mmpretrain model zoo; epochs and distilled: arXiv:2206.01191",
)
backbone = dict(
    type="SuiteEfficientFormer",
    arch="l7",
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type="Pretrained", checkpoint=weights["url"], distilled=weights["distilled"]),
)
channels = (96, 192, 384, 768)
