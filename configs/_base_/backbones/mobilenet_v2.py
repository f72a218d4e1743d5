backbone_name = "{{fileBasenameNoExtension}}"
backbone = dict(type="mmpretrain.MobileNetV2", out_indices=(1, 2, 4, 6))
channels = (24, 32, 96, 320)
