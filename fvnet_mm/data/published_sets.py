"""The data sets that published results are on."""

COCO, ADE20K, IMAGENET = "COCO 2017", "ADE20K", "ImageNet-1k"

IMAGES = {COCO: (118_287, 5_000), ADE20K: (20_210, 2_000), IMAGENET: (1_281_167, 50_000)}
"""Of the training and the validation split."""
