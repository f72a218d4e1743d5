custom_imports = dict(imports=["mynet"], allow_failed_imports=False)
backbone_name = "{{fileBasenameNoExtension}}"
backbone = dict(type="MyNet", out_indices=(0, 1, 2, 3))
channels = (16, 32, 64, 128)
