backbone_name = "{{fileBasenameNoExtension}}"
backbone = dict(
    type="mmpretrain.TIMMBackbone",
    model_name="repvit_m1_1",
    features_only=True,
    pretrained=False,
    out_indices=(0, 1, 2, 3),
)
channels = (64, 128, 256, 512)
