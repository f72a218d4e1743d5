import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from mmcv import _ext
from mmcv.ops import SigmoidFocalLoss, SoftmaxFocalLoss, sigmoid_focal_loss, softmax_focal_loss
from torch import Tensor
from torch.autograd import gradcheck

CLASSES = 5
GAMMAS = (0.0, 0.5, 1.0, 2.0, 3.7)
SMALLEST = torch.finfo(torch.float32).tiny


def samples(background: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets (each class twice, and ``background`` twice) and class weights, in float64."""
    generator = torch.Generator().manual_seed(0)
    targets = list(range(CLASSES)) + ([] if background is None else [background])
    target = torch.tensor(targets * 2)
    logits = 3 * torch.randn(len(target), CLASSES, generator=generator, dtype=torch.float64)
    return logits, target, torch.rand(CLASSES, generator=generator, dtype=torch.float64) + 0.5


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("background", [CLASSES, -1])
def test_sigmoid_equals_torchvision(gamma: float, background: int) -> None:
    logits, target, _ = samples(background)
    truth = F.one_hot(target.where(target >= 0, CLASSES), CLASSES + 1)[:, :CLASSES].double()
    expected = torchvision.ops.sigmoid_focal_loss(logits, truth, alpha=0.3, gamma=gamma)
    torch.testing.assert_close(sigmoid_focal_loss(logits, target, gamma, 0.3, None, "none"), expected)
    for reduction, total in (("sum", expected.sum()), ("mean", expected.sum() / len(logits))):
        torch.testing.assert_close(SigmoidFocalLoss(gamma, 0.3, reduction=reduction)(logits, target), total)


def test_sigmoid_weights_the_rows_by_their_class_and_background_by_one() -> None:
    logits, target, weight = samples(CLASSES)
    plain = sigmoid_focal_loss(logits, target, 2.0, 0.25, None, "none")
    weighted = sigmoid_focal_loss(logits, target, 2.0, 0.25, weight, "none")
    row_weights = torch.cat([weight, torch.ones(1)])[target]
    torch.testing.assert_close(weighted, plain * row_weights[:, None])


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("with_weight", [False, True])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_sigmoid_gradient(gamma: float, with_weight: bool, reduction: str) -> None:
    logits, target, weight = samples(CLASSES)
    assert gradcheck(
        lambda x: sigmoid_focal_loss(x, target, gamma, 0.25, weight if with_weight else None, reduction),
        logits.requires_grad_(),
    )


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("with_weight", [False, True])
def test_softmax_equals_the_formula(gamma: float, with_weight: bool) -> None:
    logits, target, weight = samples()
    log_p = logits.log_softmax(dim=1)[torch.arange(len(target)), target]
    expected = -0.3 * (1 - log_p.exp()) ** gamma * log_p * (weight[target] if with_weight else 1)
    loss = softmax_focal_loss(logits, target, gamma, 0.3, weight if with_weight else None, "none")
    torch.testing.assert_close(loss, expected)
    layer = SoftmaxFocalLoss(gamma, 0.3, weight if with_weight else None)
    torch.testing.assert_close(layer(logits, target), expected.mean())


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("with_weight", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_softmax_gradient(gamma: float, with_weight: bool, reduction: str) -> None:
    logits, target, weight = samples(background=-1)
    assert gradcheck(
        lambda x: softmax_focal_loss(x, target, gamma, 0.25, weight if with_weight else None, reduction),
        logits.requires_grad_(),
    )


def test_softmax_ignores_negative_targets() -> None:
    logits, target, weight = samples(background=-1)
    loss = softmax_focal_loss(logits, target, 2.0, 0.25, weight, "none")
    assert torch.equal(loss == 0, target < 0)
    softmax_focal_loss(logits.requires_grad_(), target, 2.0, 0.25, weight, "sum").backward()
    assert torch.equal(logits.grad.abs().sum(1) == 0, target < 0)


def test_softmax_backward_writes_its_buffers() -> None:
    logits, target, weight = samples()
    p = logits.softmax(1)
    buff, grad_input = torch.full((len(target),), 7.0, dtype=torch.float64), torch.full_like(logits, 7.0)
    _ext.softmax_focal_loss_backward(p, target, weight, buff, grad_input, gamma=2.0, alpha=0.25)
    own = p[torch.arange(len(target)), target].requires_grad_()
    (-0.25 * (1 - own) ** 2 * own.log() * weight[target]).sum().backward()
    torch.testing.assert_close(buff, own.grad * own.detach())
    torch.testing.assert_close(grad_input, buff[:, None] * (F.one_hot(target, CLASSES) - p))


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("loss", [sigmoid_focal_loss, softmax_focal_loss])
def test_saturated_logits(loss: torch.autograd.Function, gamma: float) -> None:
    """In float32 certainty is exact 0 or 1: the right answer costs nothing, the wrong one mmcv's ceiling."""
    logits = torch.tensor([[200.0, -200], [-200, 200]], requires_grad=True)
    right = loss(logits, torch.tensor([0, 1]), gamma, 0.5, None, "sum")
    wrong = loss(logits, torch.tensor([1, 0]), gamma, 0.5, None, "sum")
    assert right == 0
    terms = 4 if loss is sigmoid_focal_loss else 2
    assert wrong.item() == pytest.approx(-terms * 0.5 * math.log(SMALLEST), rel=1e-6)
    (right + wrong).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [sigmoid_focal_loss, softmax_focal_loss])
def test_half_precision(loss: torch.autograd.Function, dtype: torch.dtype) -> None:
    logits, target, weight = samples()
    half, single = logits.to(dtype).requires_grad_(), logits.to(dtype).float().requires_grad_()
    value = loss(half, target, 2.0, 0.25, weight.to(dtype), "sum")
    expected = loss(single, target, 2.0, 0.25, weight.to(dtype).float(), "sum")
    assert value.dtype == dtype
    tolerance = {"rtol": 8 * torch.finfo(dtype).eps, "atol": 4 * torch.finfo(dtype).eps}
    torch.testing.assert_close(value.float(), expected, **tolerance)
    value.backward()
    expected.backward()
    torch.testing.assert_close(half.grad.float(), single.grad, **tolerance)


def test_targets_beyond_the_classes_are_refused() -> None:
    logits = torch.zeros(2, CLASSES)
    with pytest.raises(ValueError, match=f"target {CLASSES + 1}, but the highest allowed is {CLASSES}"):
        sigmoid_focal_loss(logits, torch.tensor([0, CLASSES + 1]), 2.0, 0.25, None, "sum")
    with pytest.raises(ValueError, match=f"target {CLASSES}, but the highest allowed is {CLASSES - 1}"):
        softmax_focal_loss(logits, torch.tensor([0, CLASSES]), 2.0, 0.25, None, "sum")


@pytest.mark.parametrize("operator", [_ext.sigmoid_focal_loss_forward, _ext.softmax_focal_loss_forward])
def test_nothing_waits_for_a_device(operator: Callable[..., None]) -> None:
    """Whose numbers Python does not ask for, as tensors without any show."""
    target, weight = torch.zeros(2, dtype=torch.long, device="meta"), torch.zeros(0, device="meta")
    logits = torch.zeros(2, CLASSES, device="meta")
    output = torch.zeros_like(logits if operator is _ext.sigmoid_focal_loss_forward else logits[:, 0])
    operator(logits, target, weight, output, gamma=2.0, alpha=0.25)


@pytest.mark.parametrize("loss", [sigmoid_focal_loss, softmax_focal_loss])
def test_no_samples(loss: torch.autograd.Function) -> None:
    logits = torch.zeros(0, CLASSES, requires_grad=True)
    value = loss(logits, torch.zeros(0, dtype=torch.long), 2.0, 0.25, None, "sum")
    assert value == 0
    value.backward()
    assert logits.grad.shape == (0, CLASSES)
