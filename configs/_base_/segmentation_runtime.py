# What the segmentation runs share beside ./runtime.py: iterations instead of epochs, mmseg's registry and visualizer.
_base_ = "./runtime.py"
default_scope = "mmseg"
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=4000),
    logger=dict(log_metric_by_epoch=False),
)
visualizer = dict(type="SegLocalVisualizer")
log_processor = dict(by_epoch=False)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
