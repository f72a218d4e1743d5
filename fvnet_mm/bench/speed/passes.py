"""What is timed: a pass of a trunk, of a whole network, of a prediction, or a training step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from fvnet_mm.bench.model_complexity import head_inputs, parts_of
from fvnet_mm.bench.speed.subjects import trunk_of
from fvnet_mm.records.benchmark import Case, Conditions

Pass = Callable[[], object]

OBJECTS = 8
"""Of every image that a detector is trained on."""

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def network(module: nn.Module) -> Callable[[Tensor], object]:
    """The forward pass of trunk, neck and the heads that run at test time, as a function of images.

    Heads of regions get as many random regions as :func:`fvnet_mm.bench.model_complexity.count_model` counts.
    """
    parts = parts_of(module)
    regions: dict[tuple[object, ...], Tensor] = {}

    def forward(images: Tensor) -> list[object]:
        features = parts["backbone"](images)
        if "neck" in parts:
            features = parts["neck"](features)
        outputs = []
        for name, inputs in head_inputs(module, features):
            if isinstance(inputs, tuple) and all(isinstance(size, int) for size in inputs):
                shape = (len(images) * inputs[0], *inputs[1:])
                if shape not in regions:
                    regions[shape] = torch.rand(shape, device=images.device)
                inputs = regions[shape]
            outputs.append(parts[name](inputs))
        return outputs

    return forward


def make_pass(module: nn.Module, case: Case, conditions: Conditions) -> Pass:
    """One pass of a case, on random images that are made here.

    Args:
        module: A trunk, or a whole model of mmdet, mmseg or mmpretrain, on its device.
        case: What is run, on what.
        conditions: Precision, memory format, device, and whether it is a training step.
    """
    shape = (case.batch, 3, *case.size)
    # 'predict' begins where a data loader ends: at bytes in the host's memory.
    if case.what == "predict":
        run = _prediction(module, torch.randint(256, shape, dtype=torch.uint8))
        return _autocast(torch.inference_mode()(run), conditions)
    layout = torch.channels_last if conditions.channels_last else torch.contiguous_format
    images = torch.randn(shape, device=conditions.backend).to(memory_format=layout)
    trunk = trunk_of(module)
    if not conditions.training:
        forward = network(module) if case.what == "model" else trunk
        return _autocast(torch.inference_mode()(lambda: forward(images)), conditions)
    if case.what == "model":
        return _training_step(module, _model_loss(module, images), conditions)
    return _training_step(trunk, _trunk_loss(trunk, images), conditions)


def _autocast(run: Pass, conditions: Conditions) -> Pass:
    if conditions.precision == "float32":
        return run
    return torch.autocast(conditions.backend, _DTYPES[conditions.precision])(run)


def _prediction(model: nn.Module, images: Tensor) -> Pass:
    """From bytes to results: what mmengine's test loop calls for a batch."""
    samples = [_sample(model, tuple(images.shape[-2:])) for _ in images]
    # mmpretrain collates a batch, the others leave it a list.
    inputs = images if isinstance(samples[0], DataSample) else list(images)
    return lambda: model.test_step(dict(inputs=inputs, data_samples=samples))


def _sample(model: nn.Module, size: tuple[int, int]) -> DetDataSample | SegDataSample | DataSample:
    """What a model is told of an image that nothing has resized or padded."""
    kind = DataSample
    if hasattr(model, "decode_head"):
        kind = SegDataSample
    elif hasattr(model, "bbox_head") or hasattr(model, "roi_head"):
        kind = DetDataSample
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0))
    return kind(metainfo=meta)


def _trunk_loss(trunk: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    return lambda: torch.stack([level.float().mean() for level in trunk(images)]).sum()


def _model_loss(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    samples = [_labelled(model, tuple(images.shape[-2:]), images.device) for _ in images]
    return lambda: model.parse_losses(model(images, samples, mode="loss"))[0]


def _labelled(
    model: nn.Module, size: tuple[int, int], device: torch.device
) -> DetDataSample | SegDataSample | DataSample:
    """The same labels for every model: boxes of a sixteenth of the image, or one class everywhere, or one class."""
    height, width = size
    sample = _sample(model, size)
    if isinstance(sample, DataSample):
        return sample.set_gt_label(0).to(device)
    if isinstance(sample, SegDataSample):
        sample.gt_sem_seg = PixelData(data=torch.zeros(1, height, width, dtype=torch.long, device=device))
        return sample
    corners = torch.linspace(0, 0.75, OBJECTS, device=device)[:, None]
    boxes = torch.cat([corners, corners, corners + 0.25, corners + 0.25], 1) * torch.tensor(
        [width, height, width, height], device=device
    )
    labels = torch.zeros(OBJECTS, dtype=torch.long, device=device)
    masks = BitmapMasks([_filled(box, size) for box in boxes.round().int().tolist()], height, width)
    sample.gt_instances = InstanceData(bboxes=boxes, labels=labels, masks=masks)
    sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=labels[:0])
    return sample


def _filled(box: list[int], size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, dtype=np.uint8)
    left, top, right, bottom = box
    mask[top:bottom, left:right] = 1
    return mask


def _training_step(module: nn.Module, loss: Callable[[], Tensor], conditions: Conditions) -> Pass:
    """Forward, backward and AdamW at a rate that changes next to nothing."""
    module.train()
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-8)
    scaler = torch.amp.GradScaler(conditions.backend, enabled=conditions.precision == "fp16")
    forward = _autocast(loss, conditions)

    def step() -> None:
        optimizer.zero_grad()
        scaler.scale(forward()).backward()
        scaler.step(optimizer)
        scaler.update()

    return step
