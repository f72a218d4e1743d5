_base_ = []  # without it mmengine takes a file that imports for its other dialect of configs
import fvnet_mm.backbones

backbone_name = "{{fileBasenameNoExtension}}"
weights = None
backbone = dict(type="FVNet", arch="n", out_indices=(0, 1, 2, 3))
channels = fvnet_mm.backbones.FVNet.stage_channels(backbone["arch"])
