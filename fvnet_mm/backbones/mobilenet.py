"""MobileNetV2 and V3 of mmpretrain as trunks of the suite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from mmengine.registry import MODELS
from mmpretrain.models.backbones import MobileNetV2, MobileNetV3
from torch import nn

from .arch import STRIDES, checked_out_indices
from .trunk import StagedTrunk


class _MobileTrunk(StagedTrunk):
    """Groups the numbered layers of mmpretrain's MobileNets into stages, and drops those behind the last."""

    layers: list[str]

    def group_layers(self, names: Sequence[str], strides: Sequence[int], num_stages: int) -> None:
        """Sorts layers into stages and deletes all others.

        Args:
            names: Names of the bottleneck layers, in order.
            strides: Stride of each.
            num_stages: How many stages to keep.
        """
        self._stage_layers: list[list[str]] = [[] for _ in STRIDES]
        reached = 2  # the stem's stride; a layer that does not go further belongs to the first stage
        for name, stride in zip(names, strides, strict=True):
            reached *= stride
            self._stage_layers[STRIDES.index(max(reached, STRIDES[0]))].append(name)
        del self._stage_layers[num_stages:]
        kept = {self.stem_name, *chain.from_iterable(self._stage_layers)}
        for name in self.layers:
            if name not in kept:
                delattr(self, name)
        self.layers = [name for name in self.layers if name in kept]

    def stages(self) -> list[list[nn.Module]]:
        """The bottleneck blocks of every stage that is built."""
        return [[block for name in names for block in self._blocks(name)] for names in self._stage_layers]

    def _blocks(self, name: str) -> Iterable[nn.Module]:
        layer = getattr(self, name)
        return layer if isinstance(layer, nn.Sequential) else [layer]


@MODELS.register_module()
class SuiteMobileNetV2(_MobileTrunk, MobileNetV2):
    """MobileNetV2 (Sandler et al., CVPR 2018, table 2), mmpretrain's network and tensor names.

    The outputs are the last linear bottlenecks at strides 4, 8, 16 and 32: 24, 32, 96 and 320 channels. What
    lies behind the last requested one, the final 1x1 convolution to 1280 channels included, is not there.

    Args:
        widen_factor: Width multiplier.
        out_indices: Stages (0 to 3) to return, in ascending order.
        frozen_stages: -1 freezes nothing, 0 the first convolution, n that and the first n stages.
        norm_eval: Keep batch norms in eval mode while training (fixed running statistics).
        with_cp: Keep only the inputs of blocks and compute the rest again in the backward pass.
        norm_cfg: Norm layers.
        init_cfg: As in :class:`mmengine.model.BaseModule`; None leaves mmpretrain's.

    Raises:
        ValueError: An argument is outside what it allows.
    """

    stem_name = "conv1"

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        out_indices = checked_out_indices(out_indices)
        super().__init__(widen_factor=widen_factor, **_given(norm_cfg=norm_cfg, init_cfg=init_cfg))
        strides = [stride for _, _, _, stride in self.arch_settings]
        self.group_layers(self.layers[: len(strides)], strides, out_indices[-1] + 1)
        channels = [stage[-1].conv[-1].out_channels for stage in self.stages()]
        self.set_stages(channels, out_indices, frozen_stages, norm_eval, with_cp)


@MODELS.register_module()
class SuiteMobileNetV3(_MobileTrunk, MobileNetV3):
    """MobileNetV3 (Howard et al., ICCV 2019, tables 1 and 2), mmpretrain's network and tensor names.

    The outputs are the last bottlenecks at strides 4, 8, 16 and 32: 24, 40, 112 and 160 channels for 'large'.
    What lies behind the last requested one, the final 1x1 convolution to 960 channels included, is not there:
    it belongs to the classifier, as the 1280 channels of V2 do.

    Args:
        arch: A name in :attr:`arch_settings`, such as 'large'.
        norm_cfg: Norm layers; None leaves mmpretrain's, batch norm with eps 0.001.
        out_indices, frozen_stages, norm_eval, with_cp, init_cfg: As of :class:`SuiteMobileNetV2`.
    """

    stem_name = "layer0"

    def __init__(
        self,
        arch: str = "large",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        out_indices = checked_out_indices(out_indices)
        if arch not in self.arch_settings:
            raise ValueError(f"arch '{arch}' does not exist; choose one of {', '.join(self.arch_settings)}.")
        super().__init__(arch, **_given(norm_cfg=norm_cfg, init_cfg=init_cfg))
        strides = [stride for *_, stride in self.arch_settings[arch]]
        self.group_layers(self.layers[1 : len(strides) + 1], strides, out_indices[-1] + 1)
        channels = [stage[-1].linear_conv.out_channels for stage in self.stages()]
        self.set_stages(channels, out_indices, frozen_stages, norm_eval, with_cp)


def _given(**arguments: dict | list[dict] | None) -> dict[str, dict | list[dict]]:
    """The arguments that are not None; for the others the library's own default holds."""
    return {name: value for name, value in arguments.items() if value is not None}
