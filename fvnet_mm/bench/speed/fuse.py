"""Re-parameterising trunks for inference: as their authors or library offer, then every batch norm that folds."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable

import torch
from timm.utils import reparameterize_model
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fvnet_mm.backbones import FVNet, TimmBackbone
from fvnet_mm.errors import UserError

NOT_FUSED = "not fused"

_TOLERANCE = 1e-3
"""Of outputs, relative to the greatest; float32 rounding in deep trunks stays well below, a wrong fold does not."""

_METHODS = ("fuse", "reparameterize", "switch_to_deploy")
"""What timm's re-parameterisation looks for in a module."""


def fuse_trunk(trunk: nn.Module) -> tuple[nn.Module, str]:
    """A trunk in its form for inference, and how it came about, such as 'FVNet.fuse' or 'timm, 12 norms folded'.

    No trunk is left slower than it need be: what FVNet or timm offer is taken first, and then every batch norm behind a
    convolution is folded into it, for all alike. The fused trunk must give the same outputs. Statistics of batch norms
    are drawn at random for that (a fresh norm is the identity, and leaving it out would go unnoticed), and stay.

    Raises:
        UserError: It gives others.
    """
    trunk = copy.deepcopy(trunk).eval()
    _draw_statistics(trunk)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    how = []
    with torch.no_grad():
        expected = trunk(images)
        if isinstance(trunk, FVNet):
            trunk = trunk.fuse()
            how.append("FVNet.fuse")
        elif isinstance(trunk, TimmBackbone) and any(hasattr(m, name) for m in trunk.modules() for name in _METHODS):
            _reparameterize(trunk)
            how.append("timm")
        folded = fold_norms(trunk, images)
        if folded:
            how.append(f"{folded} norms folded")
        distances = [_distance(*pair) for pair in zip(trunk(images), expected, strict=True)]
        worst = float(torch.tensor(distances).max())  # Python's max lets NaN pass if it is not the first
    if not worst <= _TOLERANCE:
        raise UserError(
            f"re-parameterised ({', '.join(how)}) the trunk {type(trunk).__name__} gives other outputs (by "
            f"{worst:.1%}); measure it without --fuse."
        )
    return trunk.eval(), ", ".join(how) or NOT_FUSED


def fold_norms(network: nn.Module, images: Tensor) -> int:
    """Folds batch norms into the convolutions in front of them, in place; says how many.

    Which belong together is seen in a pass over ``images``: a norm is the only reader of what a convolution returned.
    """
    names = {module: name for name, module in network.named_modules()}
    convolutions = [module for module in names if isinstance(module, nn.Conv2d)]
    norms = [module for module in names if isinstance(module, _BatchNorm) and module.running_var is not None]
    with _Readers(convolutions, norms) as readers:
        network(images)
    for conv, norm in readers.pairs():
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        parent, _, name = names[norm].rpartition(".")
        # timm's norms may have an activation in them.
        setattr(network.get_submodule(parent), name, getattr(norm, "act", nn.Identity()))
    return len(readers.pairs())


class _Readers(TorchDispatchMode):
    """Watches a pass: which operators read the outputs of convolutions, and which norms do."""

    def __init__(self, convolutions: Iterable[nn.Module], norms: Iterable[nn.Module]) -> None:
        super().__init__()
        self._outputs: dict[int, tuple[nn.Module, Tensor]] = {}  # kept: an id is one tensor's only while it lives
        self._reads: Counter[int] = Counter()
        self._calls: Counter[nn.Module] = Counter()
        self._found: list[tuple[nn.Module, nn.Module, int]] = []
        self._hooks = [module.register_forward_hook(self._returned) for module in convolutions]
        self._hooks += [module.register_forward_pre_hook(self._entered) for module in norms]

    def __torch_dispatch__(
        self, operator: torch._ops.OpOverload, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        self._reads.update(id(value) for value in tree_leaves((args, kwargs)) if id(value) in self._outputs)
        return operator(*args, **(kwargs or {}))

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        for hook in self._hooks:
            hook.remove()

    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Convolution and norm, each called once, and nothing else reads what goes from one to the other."""
        return [
            (conv, norm)
            for conv, norm, output in self._found
            if self._calls[conv] == self._calls[norm] == self._reads[output] == 1
        ]

    def _returned(self, conv: nn.Module, _: object, output: Tensor) -> None:
        self._calls[conv] += 1
        self._outputs[id(output)] = (conv, output)

    def _entered(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._calls[norm] += 1
        if id(inputs[0]) in self._outputs:
            self._found.append((self._outputs[id(inputs[0])][0], norm, id(inputs[0])))


def _reparameterize(trunk: TimmBackbone) -> None:
    own = getattr(trunk.timm_model, "fuse", None)
    if own is not None:
        own()
    else:
        reparameterize_model(trunk.timm_model, inplace=True)


def _draw_statistics(trunk: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for norm in trunk.modules():
        if isinstance(norm, _BatchNorm) and norm.running_var is not None:
            norm.running_mean.uniform_(-0.1, 0.1, generator=generator)
            norm.running_var.uniform_(0.8, 1.25, generator=generator)


def _distance(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())
