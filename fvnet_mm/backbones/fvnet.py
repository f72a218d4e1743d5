"""FVNet: a pyramid of Multi-Phase Fluid Blocks."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import MethodType
from typing import ClassVar

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from .arch import (
    STRIDES,
    FVNetArch,
    as_tuple,
    check_flags,
    check_image_size,
    checked_frozen_stages,
    checked_out_indices,
    is_number,
    is_whole,
)
from .conv_norm import fuse_conv_norms
from .mpfb import MPFB, Phase, UnitOptions
from .norms import hold_norms
from .stage import Downsample, Stage, Stem

NORM_CFG = dict(type="BN", requires_grad=True)
ACT_CFG = dict(type="GELU")


@MODELS.register_module()
class FVNet(BaseModule):
    """FVNet, a lightweight trunk of liquid time-constant neurons.

    A convolutional stem to stride 4 and four stages of :class:`~.mpfb.MPFB` at strides 4, 8, 16 and 32. The
    last block of each requested stage, normed, is an output. ``docs/architecture.md`` says which parts are the
    paper's (*FVNet: Harnessing Liquid Neural Dynamics for Lightweight Visual Representation*, AAAI 2026) and
    which are choices made here.

    Stages behind the last requested one are not built, and output norms exist for requested stages only, so
    every trainable parameter gets a gradient. Parameters that should not decay (time constants, layer scales,
    norms, biases) are the one-dimensional ones: ``paramwise_cfg=dict(flat_decay_mult=0.0)`` spares them.

    Args:
        arch: Name of an entry of :attr:`arch_settings`, or a dict of the fields of :class:`FVNetArch`.
        out_indices: Stages (0 to 3) to return, in ascending order.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages. Frozen parts are
            in eval mode and need no gradient. Output norms stay trainable.
        norm_eval: Keep norms in eval mode while training (fixed running statistics).
        with_cp: Keep only the inputs of blocks and compute the rest again in the backward pass.
        in_channels: Channels of the image.
        drop_path_rate: Probability of dropping the last block's residual branches; it rises linearly from 0.
        layer_scale: Initial layer scale of every residual branch.
        tau: Initial time constants of the fastest and the slowest channel of a block, in units of the step: the ends
            of a ladder over all phases, of which those that hold FTFUs have their sections.
        unit: What the phases hold if not what :class:`~.mpfb.MPFB` says, one for all or one per phase, fast to slow.
        channels, depths, expansions, phases: Fields of :class:`FVNetArch` in place of those of ``arch``.
        deep_stem, dense_downsample, conv_ffn: Likewise.
        norm_cfg: Norm layers. Batch norms can be folded by :meth:`fuse`.
        act_cfg: Activation of the stem and of the feed-forwards.
        init_cfg: As in :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: An argument is outside what it allows.

    Example:
        >>> import torch
        >>> from fvnet_mm.backbones import FVNet
        >>> trunk = FVNet('s', out_indices=(1, 2, 3)).eval()
        >>> for level in trunk(torch.rand(1, 3, 224, 224)):
        ...     print(tuple(level.shape))
        (1, 128, 28, 28)
        (1, 192, 14, 14)
        (1, 384, 7, 7)
    """

    arch_settings: ClassVar[dict[str, FVNetArch]] = {
        "n": FVNetArch(channels=(32, 64, 128, 240), depths=(1, 1, 4, 2)),
        "t": FVNetArch(channels=(48, 96, 160, 320), depths=(1, 3, 5, 2)),
        "s": FVNetArch(channels=(64, 128, 192, 384), depths=(1, 2, 6, 2)),
        "m": FVNetArch(channels=(64, 128, 224, 448), depths=(1, 2, 6, 2)),
        "l": FVNetArch(channels=(64, 128, 384, 640), depths=(2, 3, 14, 3)),
    }

    def __init__(
        self,
        arch: str | Mapping[str, Sequence] = "s",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        in_channels: int = 3,
        drop_path_rate: float = 0.0,
        layer_scale: float = 0.5,
        tau: Sequence[float] = (1.0, 16.0),
        unit: UnitOptions | Sequence[UnitOptions] | None = None,
        channels: Sequence[int] | None = None,
        depths: Sequence[int] | None = None,
        expansions: Sequence[float] | None = None,
        phases: Sequence[Sequence[Sequence[int]]] | None = None,
        deep_stem: bool | None = None,
        dense_downsample: bool | None = None,
        conv_ffn: bool | None = None,
        norm_cfg: dict = NORM_CFG,
        act_cfg: dict = ACT_CFG,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.arch = self.get_arch(arch).replaced(
            channels=channels,
            depths=depths,
            expansions=expansions,
            phases=phases,
            deep_stem=deep_stem,
            dense_downsample=dense_downsample,
            conv_ffn=conv_ffn,
        )
        self.out_indices = checked_out_indices(out_indices)
        num_stages = self.out_indices[-1] + 1
        self.frozen_stages = checked_frozen_stages(frozen_stages, num_stages, self.out_indices)
        if not is_number(drop_path_rate) or not 0 <= drop_path_rate < 1:
            raise ValueError(f"drop_path_rate must be at least 0 and less than 1, but is {drop_path_rate}.")
        if not is_whole(in_channels, 1):
            raise ValueError(f"in_channels must be a whole number of at least 1, but is {in_channels}.")
        check_flags(norm_eval=norm_eval, with_cp=with_cp)
        self.norm_eval = norm_eval

        self.stem = Stem(
            in_channels, self.arch.channels[0], deep=self.arch.deep_stem, norm_cfg=norm_cfg, act_cfg=act_cfg
        )
        last_block = max(sum(self.arch.depths) - 1, 1)
        drop_paths = (drop_path_rate * block / last_block for block in itertools.count())
        self.stages = nn.ModuleList()
        for i in range(num_stages):
            channels = self.arch.channels[i]
            downsample = nn.Identity()
            if i > 0:
                dense = self.arch.dense_downsample
                downsample = Downsample(self.arch.channels[i - 1], channels, dense=dense, norm_cfg=norm_cfg)
            blocks = [
                MPFB(
                    channels,
                    [Phase(*phase) for phase in self.arch.phases[i]],
                    expansion=self.arch.expansions[i],
                    tau=tau,
                    unit=unit,
                    conv_ffn=self.arch.conv_ffn,
                    drop_path=next(drop_paths),
                    layer_scale=layer_scale,
                    norm_cfg=norm_cfg,
                    act_cfg=act_cfg,
                )
                for _ in range(self.arch.depths[i])
            ]
            self.stages.append(Stage(downsample, blocks, with_cp))
        for i in self.out_indices:
            self.add_module(f"norm{i}", build_norm_layer(norm_cfg, self.arch.channels[i])[1])
        self._freeze_stages()

    @classmethod
    def get_arch(cls, arch: str | Mapping[str, Sequence]) -> FVNetArch:
        """Settings of an architecture, by name or from a dict, without building it.

        Raises:
            ValueError: No such name, or a dict with missing, unknown or wrong entries.
        """
        if isinstance(arch, str):
            if arch not in cls.arch_settings:
                raise ValueError(f"arch '{arch}' does not exist; choose one of {', '.join(cls.arch_settings)}.")
            return cls.arch_settings[arch]
        names = [field.name for field in fields(FVNetArch)]
        required = names[:2]
        if not isinstance(arch, Mapping) or not set(required) <= set(arch) <= set(names):
            given = list(arch) if isinstance(arch, Mapping) else arch
            raise ValueError(
                f"arch must be one of {', '.join(cls.arch_settings)} or a dict with the keys {required} and any "
                f"of {names[2:]}, but it is given {given}."
            )
        return FVNetArch(**{name: as_tuple(value) for name, value in arch.items()})

    @classmethod
    def stage_channels(
        cls, arch: str | Mapping[str, Sequence], out_indices: Sequence[int] = (0, 1, 2, 3)
    ) -> tuple[int, ...]:
        """Channels of the stages ``out_indices`` without building anything: for necks in configs."""
        return tuple(cls.get_arch(arch).channels[i] for i in checked_out_indices(out_indices))

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the outputs."""
        return tuple(self.arch.channels[i] for i in self.out_indices)

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the outputs, in pixels of the image."""
        return tuple(STRIDES[i] for i in self.out_indices)

    def stage_outputs(self, x: Tensor, num_stages: int | None = None) -> list[Tensor]:
        """Outputs of the first ``num_stages`` stages, or of all that are built, before the output norms.

        Args:
            x: Images, (N, in_channels, H, W), H and W at least 32.
            num_stages: How many stages to compute.

        Raises:
            ValueError: The image is too small.
        """
        check_image_size(x, "FVNet")
        x = self.stem(x)
        outputs = []
        for stage in self.stages[:num_stages]:
            x = stage(x)
            outputs.append(x)
        return outputs

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Computes the requested levels of the pyramid.

        Args:
            x: Images, (N, in_channels, H, W), H and W at least 32.

        Returns:
            One (N, channels[i], ceil(H / strides[i]), ceil(W / strides[i])) tensor per requested stage.

        Raises:
            ValueError: The image is too small.
        """
        outputs = self.stage_outputs(x)
        return tuple(getattr(self, f"norm{i}")(outputs[i]) for i in self.out_indices)

    def train(self, mode: bool = True) -> FVNet:
        """Sets the mode, keeping frozen stages (and with ``norm_eval`` all norms) in eval mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        if mode and self.norm_eval:
            hold_norms(self)
        return self

    def compile(self, *args: object, **kwargs: object) -> None:
        """Compiles the blocks in place, with :func:`torch.compile` and its arguments.

        All blocks run one compiled function, so that those of a stage share a program where their settings are equal:
        four are compiled for training and four for evaluation, not as many as there are blocks; with
        ``drop_path_rate`` one for every rate, where ``torch._dynamo.config.recompile_limit`` allows it.
        ``torch.compile(net)`` makes one program of all, which takes several times as long and gains little: a block
        begins and ends with a map in memory.
        """
        forward = torch.compile(MPFB.forward, *args, **kwargs)
        for stage in self.stages:
            for block in stage.blocks:
                block.forward = MethodType(forward, block)

    def fuse(self) -> FVNet:
        """A copy for inference with every batch norm that follows a convolution folded into it.

        Same outputs in eval mode, up to rounding, in fewer passes. The output norms follow a sum and stay.
        The copy is in eval mode, has no trainable parameters, and its state dict is not this network's.
        """
        fused = copy.deepcopy(self).eval()
        fuse_conv_norms(fused)
        return fused.requires_grad_(False)

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Depth of a parameter, for the layer-wise learning-rate decay of mmpretrain.

        Args:
            param_name: Name of the parameter.
            prefix: What comes before this network's names, such as ``'backbone.'``.

        Returns:
            Depth (0 for the stem, one more per block, the greatest for output norms and everything behind the
            trunk) and number of depths.
        """
        depths = [len(stage.blocks) for stage in self.stages]
        num_layers = sum(depths) + 2
        parts = param_name.removeprefix(prefix).split(".")
        if param_name.startswith(prefix) and parts[0] == "stem":
            return 0, num_layers
        if param_name.startswith(prefix) and parts[0] == "stages":
            stage = int(parts[1])
            block = int(parts[3]) if parts[2] == "blocks" else 0
            return sum(depths[:stage]) + block + 1, num_layers
        return num_layers - 1, num_layers

    def _frozen_modules(self) -> list[nn.Module]:
        return [] if self.frozen_stages < 0 else [self.stem, *self.stages[: self.frozen_stages]]

    def _freeze_stages(self) -> None:
        for module in self._frozen_modules():
            module.eval().requires_grad_(False)
