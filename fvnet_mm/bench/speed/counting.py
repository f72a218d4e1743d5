"""MACs by two counters, what a counter skips, and the bytes that memory must carry at least."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from mmengine.analysis import FlopAnalyzer
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from fvnet_mm.backbones.ablation import RepeatedFTFU
from fvnet_mm.backbones.ftfu import FTFU
from fvnet_mm.bench.complexity import count_macs, count_parameters
from fvnet_mm.bench.model_complexity import count_model, parts_of
from fvnet_mm.bench.speed.passes import network
from fvnet_mm.bench.speed.subjects import trunk_of
from fvnet_mm.records.benchmark import Counted, Size, Skipped

FTFU_OPERATIONS = 9
"""Element-wise operations of a Fluid Temporal Flow Unit for every value of its state.

Of ``closed_form_step``: the attractor's sum, softplus, 1/tau + f, f / lam, times a, lam * dt, exp, and the step from h*
towards h as two. Convolutions are counted by the counters.
"""

_MULTIPLYING = ("conv", "addmm", "bmm", "matmul", "einsum", "linear")
"""Operators of mmengine's counter that torch's counts, too; it also counts norms, pooling and interpolation."""

_CLOSED_FORM = (FTFU.forward, RepeatedFTFU.forward)
"""Of units that take the closed form's step and no other."""

Forward = Callable[[Tensor], object]


def parameters_of(module: nn.Module) -> dict[str, int]:
    """Parameters of a model's parts, or of a trunk alone under 'backbone'."""
    if trunk_of(module) is module:
        return {"backbone": count_parameters(module)}
    return {name: count_parameters(part) for name, part in parts_of(module).items()}


def ftfu_operations(module: nn.Module, size: Size) -> int:
    """Element-wise operations of a trunk's Fluid Temporal Flow Units for one image, from their equation.

    No counter has the closed form among its operators; :data:`FTFU_OPERATIONS` times the values of each unit's state,
    for each of its steps. The trunk is not fused. Units of the ablation that solve the equation in another way count as
    none, and what others have beside the step is left out.
    """
    values = []
    trunk = copy.deepcopy(trunk_of(module)).to("meta")
    units = [unit for unit in trunk.modules() if isinstance(unit, FTFU) and type(unit).forward in _CLOSED_FORM]
    for unit in units:  # the attractor is seen once a step
        unit.attractor.register_forward_hook(lambda _, inputs, output: values.append(inputs[0].numel()))
    if units:
        with torch.no_grad():
            trunk(torch.zeros(1, 3, *size, device="meta"))
    return FTFU_OPERATIONS * sum(values)


def count_subject(module: nn.Module, sizes: Sequence[Size]) -> tuple[Counted, ...]:
    """Counts of a trunk, and of a whole model's trunk and network, for one image of every size, in eval mode.

    The module has its weights on the CPU and is not changed.
    """
    counted = []
    trunk = trunk_of(module)
    for size in sizes:
        macs = {"backbone": count_macs(trunk, (1, 3, *size))}
        counted.append(_count("trunk", trunk, size, macs, lambda m: m))
        if trunk is not module:
            counted.append(_count("model", module, size, count_model(module, size).macs, network))
    return tuple(counted)


def _count(
    what: Literal["trunk", "model"],
    module: nn.Module,
    size: Size,
    macs: Mapping[str, int],
    forward_of: Callable[[nn.Module], Forward],
) -> Counted:
    traffic = _watch(module, size, forward_of)
    other, failed = None, None
    try:
        other = _other_macs(forward_of(module), module, size)
    except Exception as error:  # its tracing fails in as many ways as there are operators
        failed = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return Counted(
        what=what,
        size=size,
        macs=dict(macs),
        other_macs=other,
        other_failed=failed,
        skipped=traffic.skipped(),
        weight_bytes=traffic.weight_bytes,
        activation_bytes=traffic.activation_bytes,
    )


class _Traffic(TorchDispatchMode):
    """Watches the operators of a pass: bytes of those that multiply, and how often others come and what they write."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_bytes = self.activation_bytes = 0
        self._seen: set[tuple[int, int]] = set()
        self._calls: Counter[str] = Counter()
        self._written: Counter[str] = Counter()
        self._all_written = 0

    def __torch_dispatch__(
        self, operator: torch._ops.OpOverload, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        outputs = operator(*args, **(kwargs or {}))
        if _is_view(operator):
            return outputs
        written = sum(tensor.numel() for tensor in _tensors(outputs))
        self._all_written += written
        if operator.overloadpacket in flop_registry:
            self._read((args, kwargs or {}))
            self.activation_bytes += sum(tensor.numel() * tensor.element_size() for tensor in _tensors(outputs))
        else:
            self._calls[str(operator.overloadpacket)] += 1
            self._written[str(operator.overloadpacket)] += written
        return outputs

    def _read(self, inputs: object) -> None:
        for tensor in _tensors(inputs):
            size = tensor.numel() * tensor.element_size()
            # A transposed weight is a view of it, and so is each part of one that several operators share.
            parameter = tensor if isinstance(tensor, nn.Parameter) else tensor._base
            part = id(parameter), tensor.storage_offset()
            if not isinstance(parameter, nn.Parameter):
                self.activation_bytes += size
            elif part not in self._seen:
                self._seen.add(part)
                self.weight_bytes += size

    def skipped(self) -> tuple[Skipped, ...]:
        """Operators without a count, the greatest share first."""
        return tuple(
            Skipped(operator=name.removeprefix("aten."), calls=self._calls[name], share=written / self._all_written)
            for name, written in self._written.most_common()
            if written
        )


def _is_view(operator: torch._ops.OpOverload) -> bool:
    returned = [value.alias_info for value in operator._schema.returns if value.alias_info is not None]
    return operator == torch.ops.aten._unsafe_view.default or any(not alias.is_write for alias in returned)


def _watch(module: nn.Module, size: Size, forward_of: Callable[[nn.Module], Forward]) -> _Traffic:
    """A pass under watch: on the meta device where the module runs there, else on the CPU."""
    try:
        return _watch_on("meta", copy.deepcopy(module), size, forward_of)
    except (NotImplementedError, RuntimeError):  # an operator without a meta kernel, or one that looks at values
        return _watch_on("cpu", module, size, forward_of)


def _watch_on(device: str, module: nn.Module, size: Size, forward_of: Callable[[nn.Module], Forward]) -> _Traffic:
    forward = forward_of(module.to(device))
    traffic = _Traffic()
    images = torch.zeros(1, 3, *size, device=device)
    with torch.no_grad(), traffic:
        forward(images)
    return traffic


class _Traced(nn.Module):
    """A network as a module whose outputs are tensors, for tracing."""

    def __init__(self, module: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.module = module
        self._forward = forward

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(_tensors(self._forward(images)))


def _other_macs(forward: Forward, module: nn.Module, size: Size) -> int:
    analyzer = FlopAnalyzer(_Traced(module, forward), (torch.zeros(1, 3, *size),))
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad():
        found = analyzer.by_operator()
    return int(sum(macs for operator, macs in found.items() if operator in _MULTIPLYING))


def _tensors(values: object) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]
