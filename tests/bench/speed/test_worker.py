"""One model in this process: what a pass is, fixed outputs, compilation, refusals."""

import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.dense_heads import FCOSHead
from torch import nn

from fvnet_mm.bench.speed import worker as worker_module
from fvnet_mm.bench.speed.fixed_outputs import fix_outputs
from fvnet_mm.bench.speed.passes import make_pass
from fvnet_mm.bench.speed.subjects import build_subject, find_subjects
from fvnet_mm.bench.speed.worker import LocalWorker, OutOfMemory
from fvnet_mm.errors import UserError
from fvnet_mm.records.benchmark import Case, Conditions

CONFIGS = Path(__file__).parents[3] / "configs"

Build = Callable[[str], nn.Module]


@pytest.fixture
def plain(conditions: Conditions) -> Conditions:
    return conditions.model_copy(update=dict(fused=False))


@pytest.fixture(scope="module")
def retinanet() -> nn.Module:
    (subject,) = find_subjects([str(CONFIGS / "retinanet_mobilenet_v2_coco.py")])
    return build_subject(subject)


def boxes(model: nn.Module, conditions: Conditions) -> list[int]:
    predict = make_pass(model, Case(what="predict", size=(64, 96), batch=2), conditions)
    return [len(sample.pred_instances) for sample in predict()]


def test_number_of_boxes_does_not_hang_on_the_weights(retinanet: nn.Module, plain: Conditions) -> None:
    """As they are, random weights give no box, and with another bias of the head the most that are allowed."""
    bias = retinanet.bbox_head.retina_cls.bias
    counts = []
    for value in (-10.0, 10.0):
        nn.init.constant_(bias, value)
        counts.append(boxes(retinanet, plain))
    assert counts == [[0, 0], [100, 100]]
    fix_outputs(retinanet)
    for value in (-10.0, 10.0):
        nn.init.constant_(bias, value)
        counts.append(boxes(retinanet, plain))
    assert counts[2] == counts[3]
    assert counts[2][0] == counts[2][1] > 20


def test_detector_whose_scores_cannot_be_fixed_is_refused() -> None:
    model = SimpleNamespace(bbox_head=FCOSHead(num_classes=2, in_channels=8))
    with pytest.raises(UserError, match="predict with a FCOSHead cannot be timed on random weights"):
        fix_outputs(model)


def test_passes_of_a_whole_model(retinanet: nn.Module, plain: Conditions) -> None:
    """The trunk's and the network's pass compute what the model's own methods do."""
    trunk = make_pass(retinanet, Case(what="trunk", size=(64, 64), batch=2), plain)()
    assert [tuple(level.shape) for level in trunk] == [(2, 32, 8, 8), (2, 96, 4, 4), (2, 320, 2, 2)]
    (heads,) = make_pass(retinanet, Case(what="model", size=(64, 64), batch=2), plain)()
    assert [len(levels) for levels in heads] == [5, 5]
    assert heads[0][0].shape == (2, 9 * 80, 8, 8)


def test_training_step_changes_every_parameter_that_learns(plain: Conditions) -> None:
    (subject,) = find_subjects([str(CONFIGS / "semantic_fpn_mobilenet_v2_ade20k.py")])
    model = build_subject(subject)
    training = plain.model_copy(update=dict(training=True))
    step = make_pass(model, Case(what="model", size=(64, 64), batch=2), training)
    step()
    assert model.training
    lacking = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert lacking == []


def test_autocast_and_memory_format(plain: Conditions) -> None:
    conditions = plain.model_copy(update=dict(precision="bf16", channels_last=True))
    trunk = nn.Conv2d(3, 4, 1)
    output = make_pass(trunk, Case(what="trunk", size=(32, 32), batch=2), conditions)()
    assert output.dtype == torch.bfloat16
    assert output.is_contiguous(memory_format=torch.channels_last)


class Small(nn.Module):
    """A trunk that only takes images of 32 pixels, and no more than two."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        if len(x) > 2:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return (self.norm(self.conv(x)).reshape(len(x), 4, 32, 32),)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "build_subject", lambda subject: Small().eval())


def test_worker_of_a_trunk(small: None, plain: Conditions) -> None:
    (subject,) = find_subjects(["fvnet_t"])
    worker = LocalWorker(subject, plain, [(32, 32)])
    assert worker.model.parameters == {"backbone": 3 * 4 + 4 + 8}
    assert worker.model.trained == 3 * 4 + 4 + 8
    assert [part.total_macs for part in worker.model.counted] == [32 * 32 * 12]
    case = Case(what="trunk", size=(32, 32), batch=2)
    assert worker.prepare(case) > 0
    assert len(worker.turn(3)) == 3
    assert worker.peak_memory() is None
    with pytest.raises(OutOfMemory):
        worker.prepare(case.model_copy(update=dict(batch=3)))
    with pytest.raises(UserError, match=r"fvnet_t does not run on 1 x 64x64 images: shape .* is invalid"):
        worker.prepare(case.model_copy(update=dict(size=(64, 64), batch=1)))
    worker.close()


class Greedy(nn.Module):
    """A trunk whose passes of several images fail when there is a map already."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.map: Callable[[], torch.Tensor | None] = lambda: None

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        if len(x) == 1:  # it is counted
            return (self.conv(x),)
        features = self.conv(x)
        self.map = weakref.ref(features)
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")


def test_nothing_of_a_pass_that_did_not_fit_is_held(plain: Conditions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when the cache is emptied, nor by the error while a smaller batch is tried."""
    trunk = Greedy().eval()
    monkeypatch.setattr(worker_module, "build_subject", lambda subject: trunk)
    (subject,) = find_subjects(["fvnet_t"])
    worker = LocalWorker(subject, plain, [(32, 32)])
    held = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: held.append(trunk.map()))
    with pytest.raises(OutOfMemory) as caught:
        worker.prepare(Case(what="trunk", size=(32, 32), batch=2))
    assert held == [None]
    assert trunk.map() is None
    assert caught.value.__context__ is None


def test_gradients_are_memory_of_every_case(small: None, plain: Conditions, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are there after the first case; whatever is there before a case is not part of its memory."""
    trunk = Small()
    monkeypatch.setattr(worker_module, "build_subject", lambda subject: trunk)
    (subject,) = find_subjects(["fvnet_t"])
    worker = LocalWorker(subject, plain.model_copy(update=dict(training=True)), [(32, 32)])
    seen: list[int] = []

    def gradients() -> int:
        seen.append(sum(p.grad.nbytes for p in trunk.parameters() if p.grad is not None))
        return seen[-1]

    monkeypatch.setattr(worker_module, "_allocated", gradients)
    for batch in (1, 2):
        worker.prepare(Case(what="trunk", size=(32, 32), batch=batch))
    assert seen == 2 * [0, 4 * (3 * 4 + 4 + 8)]


def test_compiled_parts_keep_their_hooks_outside(retinanet: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part is compiled alone and for each shape anew, and what fixes a head's outputs is in none of them."""
    options = []

    def compiled(forward: Callable[..., object], **given: object) -> Callable[..., object]:
        options.append(given)
        return forward

    monkeypatch.setattr(torch, "compile", compiled)
    worker_module._compile(retinanet)
    assert options == [dict(dynamic=False)] * 3
    assert "forward" in vars(retinanet.bbox_head)


@pytest.mark.gpu
def test_memory_on_a_gpu(small: None, plain: Conditions) -> None:
    (subject,) = find_subjects(["fvnet_t"])
    worker = LocalWorker(subject, plain.model_copy(update=dict(backend="cuda")), [(32, 32)])
    worker.prepare(Case(what="trunk", size=(32, 32), batch=2))
    worker.turn(2)
    # At least the images and one map of the pass, in float32.
    assert worker.peak_memory() >= 4 * 2 * 32 * 32 * (3 + 4)


class Wide(nn.Module):
    """A trunk with far more parameters than features."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(3, 1024, 8, stride=8), nn.Conv2d(1024, 1024, 3, padding=1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.convs(x),)


@pytest.mark.gpu
def test_training_takes_as_much_memory_on_a_gpu_the_second_time(
    plain: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "build_subject", lambda subject: Wide())
    (subject,) = find_subjects(["fvnet_t"])
    worker = LocalWorker(subject, plain.model_copy(update=dict(backend="cuda", training=True)), [(32, 32)])
    taken = []
    for _ in range(2):
        worker.prepare(Case(what="trunk", size=(32, 32), batch=2))
        worker.turn(2)
        taken.append(worker.peak_memory())
    assert taken[1] == pytest.approx(taken[0], rel=0.05)
