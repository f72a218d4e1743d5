"""``--demo``: the real model on a small generated data set, in minutes on two CPU cores."""

from pathlib import Path

from mmengine.config import Config

from fvnet_mm.data.shapes import write_coco_shapes
from fvnet_mm.engine.config import innermost_dataset

IMAGE_SIZE = (160, 160)
TRAIN_IMAGES = 256
VAL_IMAGES = 48
BATCH = 4
EPOCHS = 4
LEARNING_RATE = 3e-4
MAX_GRADIENT_NORM = 5.0


def make_demo_data(work_dir: Path) -> Path:
    """Generates the demo's data set under a work dir, or finds it there."""
    return write_coco_shapes(_data_folder(work_dir), TRAIN_IMAGES, VAL_IMAGES, IMAGE_SIZE)


def is_demo(work_dir: Path) -> bool:
    """Whether what a work dir holds was made by a demo."""
    return _data_folder(work_dir).is_dir()


def _data_folder(work_dir: Path) -> Path:
    return work_dir / "demo_data"


def scale_down(cfg: Config) -> None:
    """Scales a config's images, schedule and batch down to the demo's; model and losses stay what they are.

    The learning rate goes up and gradients are clipped: hundreds of steps from random weights, not tens of
    thousands from ImageNet's.
    """
    scale_images(cfg, IMAGE_SIZE)
    iterations = TRAIN_IMAGES // BATCH
    cfg.train_dataloader.batch_size = BATCH
    cfg.val_dataloader.batch_size = BATCH
    cfg.auto_scale_lr = dict(enable=False, base_batch_size=BATCH)
    cfg.train_cfg.max_epochs = EPOCHS
    cfg.train_cfg.val_interval = EPOCHS // 2
    cfg.optim_wrapper.optimizer.lr = LEARNING_RATE
    cfg.optim_wrapper.clip_grad = dict(max_norm=MAX_GRADIENT_NORM)
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=iterations),
        dict(type="CosineAnnealingLR", by_epoch=True, begin=1, end=EPOCHS, convert_to_iter_based=True),
    ]
    cfg.default_hooks.logger.interval = iterations // 2


def scale_images(cfg: Config, size: tuple[int, int]) -> None:
    """Sets the (width, height) that every pipeline of a config resizes to."""
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for transform in innermost_dataset(cfg[loader].dataset).pipeline:
            if transform["type"] == "Resize":
                transform["scale"] = size
