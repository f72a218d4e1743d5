"""``--demo``: the real model on a small generated data set, in minutes on two CPU cores."""

from pathlib import Path

from mmengine.config import Config, ConfigDict

from fvnet_mm.data.shapes import write_coco_shapes

IMAGE_SIZE = (160, 160)
TRAIN_IMAGES = 256
VAL_IMAGES = 48
BATCH = 4
EPOCHS = 6
LEARNING_RATE = 5e-4


def make_demo_data(work_dir: Path) -> Path:
    """Generates the demo's data set under a work dir, or finds it there."""
    return write_coco_shapes(work_dir / "demo_data", TRAIN_IMAGES, VAL_IMAGES, IMAGE_SIZE)


def scale_down(cfg: Config) -> None:
    """Scales a config's images, schedule and batch down to the demo's; model and losses stay what they are.

    The learning rate goes up: hundreds of steps from random weights, not tens of thousands from ImageNet's.
    """
    scale_images(cfg, IMAGE_SIZE)
    iterations = TRAIN_IMAGES // BATCH
    cfg.train_dataloader.batch_size = BATCH
    cfg.val_dataloader.batch_size = BATCH
    cfg.auto_scale_lr = dict(enable=False, base_batch_size=BATCH)
    cfg.train_cfg.max_epochs = EPOCHS
    cfg.train_cfg.val_interval = EPOCHS // 2
    cfg.optim_wrapper.optimizer.lr = LEARNING_RATE
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=iterations),
        dict(type="CosineAnnealingLR", by_epoch=True, begin=1, end=EPOCHS, convert_to_iter_based=True),
    ]
    cfg.default_hooks.logger.interval = iterations // 2


def scale_images(cfg: Config, size: tuple[int, int]) -> None:
    """Sets the (width, height) that every pipeline of a config resizes to."""
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for transform in _pipeline(cfg[loader].dataset):
            if transform["type"] == "Resize":
                transform["scale"] = size


def _pipeline(dataset: ConfigDict) -> list[ConfigDict]:
    return dataset.pipeline if "pipeline" in dataset else _pipeline(dataset.dataset)
