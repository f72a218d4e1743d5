"""What another library's network needs to be a trunk of the suite: stage indices, freezing, recomputation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .arch import MIN_SIZE, STRIDES, checked_frozen_stages
from .recompute import recomputed


class StagedTrunk(BaseModule):
    """Puts a library's network under the suite's contract; comes before the library's class among the bases.

    A subclass builds the library's network, removes what lies behind the last requested stage, calls
    :meth:`set_stages`, and says with :attr:`stem_name`, :meth:`stages` and :meth:`output` where its parts are.
    """

    stem_name: str
    """Name of the module in front of the stages."""

    def set_stages(
        self,
        channels: Sequence[int],
        out_indices: tuple[int, ...],
        frozen_stages: int,
        norm_eval: bool,
        with_cp: bool,
    ) -> None:
        """Last step of a subclass's constructor.

        Args:
            channels: Channels of every stage that is built.
            out_indices: Stages to return, as :func:`~.arch.checked_out_indices` returns them.
            frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages. Frozen parts are
                in eval mode and need no gradient. Output norms stay trainable.
            norm_eval: Keep batch norms in eval mode while training.
            with_cp: Keep only the inputs of blocks and compute the rest again in the backward pass.

        Raises:
            ValueError: ``frozen_stages`` is out of range.
        """
        self.out_indices = out_indices
        self.frozen_stages = checked_frozen_stages(frozen_stages, len(channels), out_indices)
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self._stage_channels = tuple(channels)
        self._freeze_stages()

    def stages(self) -> Sequence[Iterable[nn.Module]]:
        """The blocks of every stage that is built."""
        raise NotImplementedError

    def output(self, stage: int, x: Tensor) -> Tensor:
        """What is returned of a requested stage's last features."""
        return x

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the outputs."""
        return tuple(self._stage_channels[i] for i in self.out_indices)

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the outputs, in pixels of the image."""
        return tuple(STRIDES[i] for i in self.out_indices)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Computes the requested levels of the pyramid.

        Args:
            x: Images, (N, 3, H, W), H and W at least 32.

        Returns:
            One (N, channels[i], ceil(H / strides[i]), ceil(W / strides[i])) tensor per requested stage.

        Raises:
            ValueError: The image is too small.
        """
        if min(x.shape[-2:]) < MIN_SIZE:
            raise ValueError(
                f"{type(self).__name__} needs images of at least {MIN_SIZE}x{MIN_SIZE} pixels, but got "
                f"{x.shape[-2]}x{x.shape[-1]}; resize or pad them."
            )
        x = getattr(self, self.stem_name)(x)
        outputs = []
        for i, stage in enumerate(self.stages()):
            for block in stage:
                x = recomputed(block, x) if self.with_cp and torch.is_grad_enabled() else block(x)
            if i in self.out_indices:
                outputs.append(self.output(i, x))
        return tuple(outputs)

    def train(self, mode: bool = True) -> StagedTrunk:
        """Sets the mode, keeping frozen stages (and with ``norm_eval`` batch norms) in eval mode."""
        super().train(mode)  # mmpretrain's returns None
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze_stages(self) -> None:
        # mmpretrain's constructors and train() call this by its name.
        if self.frozen_stages < 0:
            return
        getattr(self, self.stem_name).eval().requires_grad_(False)
        for stage in self.stages()[: self.frozen_stages]:
            for block in stage:
                block.eval().requires_grad_(False)
