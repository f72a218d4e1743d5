"""The focal loss (Lin et al., 'Focal Loss for Dense Object Detection', ICCV 2017, eq. 5) and its gradient.

    FL(p_t) = -alpha_t * (1 - p_t)^gamma * log(p_t)

with p_t the probability given to the truth. The sigmoid form takes every class as a yes-or-no question, the
softmax form asks for one class out of all. As in mmcv's kernels, a logarithm's argument is at least the
smallest normal float32, so that float32 losses end at 87.3.

``input`` is (N, C), ``target`` the class of each sample, (N,) int64, ``weight`` the weight of a sample by its class,
(C,), or empty for no weights.
"""

import torch
from torch import Tensor

from fvnet_mm.ops.precision import compute_dtype

_SMALLEST = torch.finfo(torch.float32).tiny


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of every class of every sample, written into ``output``, (N, C); ``input`` are logits.

    A sample's own class counts with alpha, all others as negatives with 1 - alpha. A target of C (mmdet's
    background) or below 0 makes the sample negative for all classes; such a sample's weight is 1 (compiled
    mmcv reads past the end of ``weight`` for it).

    Raises:
        ValueError: A target is greater than C; on an NVIDIA GPU PyTorch's own error says so, at a later call.
    """
    _check_targets(target, highest=input.size(1))
    logits = input.to(compute_dtype(input))
    loss = logits.sigmoid()
    absent = (1 - loss).clamp_(min=_SMALLEST).log_()
    loss = loss.pow_(gamma).mul_(absent).mul_(alpha - 1)

    own_class, positive = _own_class(target, input.size(1))
    p = logits.gather(1, own_class).sigmoid_()
    own_loss = -alpha * (1 - p).pow(gamma) * p.clamp(min=_SMALLEST).log()
    _finish(loss, own_loss, own_class, positive, weight, output)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Derivative of :func:`sigmoid_focal_loss_forward`'s elements, each with respect to its own logit.

    It is written into ``grad_input``, (N, C).
    """
    logits = input.to(compute_dtype(input))
    p = logits.sigmoid()
    absent = 1 - p
    gradient = absent.clamp(min=_SMALLEST).log_().mul_(absent).mul_(gamma).sub_(p)
    gradient = gradient.mul_(p.pow_(gamma)).mul_(alpha - 1)

    own_class, positive = _own_class(target, input.size(1))
    p = logits.gather(1, own_class).sigmoid_()
    own_gradient = -alpha * (1 - p).pow(gamma) * (1 - p - gamma * p * p.clamp(min=_SMALLEST).log())
    _finish(gradient, own_gradient, own_class, positive, weight, grad_input)


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of each sample's own class, written into ``output``, (N,).

    ``input`` are probabilities: the softmax has already been taken. A target below 0 marks a sample to ignore: its
    loss and gradient are 0. Background is a class like others, one of the C; a target of C, for which compiled mmcv
    reads the next sample's probability, is refused.

    Raises:
        ValueError: A target is C or greater; on an NVIDIA GPU PyTorch's own error says so, at a later call.
    """
    _check_targets(target, highest=input.size(1) - 1)
    own_class, counted = _own_class(target, input.size(1))
    p = input.to(compute_dtype(input)).gather(1, own_class)
    loss = -alpha * (1 - p).pow(gamma) * p.clamp(min=_SMALLEST).log()
    output.copy_(_weighted(torch.where(counted, loss, 0), own_class, counted, weight).squeeze(1))


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Gradient of :func:`softmax_focal_loss_forward`'s elements with respect to the logits.

    The gradient is buff * (1[class = target] - p) with buff = p_t * dFL/dp_t, one number a sample. Both are written:
    into ``grad_input``, (N, C), and ``buff``, (N,).
    """
    own_class, counted = _own_class(target, input.size(1))
    probabilities = input.to(compute_dtype(input))
    p = probabilities.gather(1, own_class)
    rest = 1 - p
    # At p = 1 the product's limit is 0; with gamma below 1 its first factor is infinite there.
    focusing = torch.where(rest > 0, gamma * rest.pow(gamma - 1) * p * p.clamp(min=_SMALLEST).log(), 0)
    factor = torch.where(counted, alpha * (focusing - rest.pow(gamma)), 0)
    factor = _weighted(factor, own_class, counted, weight)
    buff.copy_(factor.squeeze(1))
    gradient = -factor * probabilities
    grad_input.copy_(gradient.scatter_add_(1, own_class, factor))


def _check_targets(target: Tensor, highest: int) -> None:
    """Refuses targets above the highest; on an NVIDIA GPU without waiting for it: the error comes with a later call.

    Raises:
        ValueError: There are some, elsewhere.
    """
    if target.device.type in ("cuda", "meta"):  # Python would have to wait for the numbers, or there are none
        torch._assert_async((target <= highest).all(), f"The focal loss got a target above the highest, {highest}.")
    elif target.numel() and target.max() > highest:
        raise ValueError(f"The focal loss got the target {int(target.max())}, but the highest allowed is {highest}.")


def _own_class(target: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Column of each sample's own class (any, where it has none) and whether it has one, both (N, 1)."""
    target = target.unsqueeze(1)
    return target.clamp(0, classes - 1), (target >= 0) & (target < classes)


def _weighted(values: Tensor, own_class: Tensor, has_class: Tensor, weight: Tensor) -> Tensor:
    """Multiplies the rows of (N, M) by the weights of their classes, rows without a class by 1."""
    if weight.numel() == 0:
        return values
    return values * torch.where(has_class, weight.to(values.dtype)[own_class], 1)


def _finish(
    values: Tensor, own_values: Tensor, own_class: Tensor, positive: Tensor, weight: Tensor, output: Tensor
) -> None:
    """Writes the negatives' values with those of the own classes put in, weighted, into ``output``."""
    own_values = torch.where(positive, own_values, values.gather(1, own_class))
    values.scatter_(1, own_class, own_values)
    output.copy_(_weighted(values, own_class, positive, weight))
