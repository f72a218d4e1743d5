"""What another library's network needs to be a trunk of the suite: stage indices, freezing, recomputation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from .arch import STRIDES, check_flags, check_image_size, checked_frozen_stages
from .norms import hold_norms
from .recompute import run_block


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
            ValueError: An argument is outside what it allows.
        """
        self.out_indices = out_indices
        self.frozen_stages = checked_frozen_stages(frozen_stages, len(channels), out_indices)
        check_flags(norm_eval=norm_eval, with_cp=with_cp)
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
        check_image_size(x, type(self).__name__)
        x = getattr(self, self.stem_name)(x)
        outputs = []
        for i, stage in enumerate(self.stages()):
            for block in stage:
                x = run_block(block, x, self.with_cp)
            if i in self.out_indices:
                outputs.append(self.output(i, x))
        return tuple(outputs)

    def train(self, mode: bool = True) -> StagedTrunk:
        """Sets the mode, keeping frozen stages (and with ``norm_eval`` batch norms) in eval mode."""
        super().train(mode)  # mmpretrain's returns None
        self._freeze_stages()
        if mode and self.norm_eval:
            hold_norms(self)
        return self

    def compile(self, *args: object, **kwargs: object) -> None:
        """Compiles in place, with :func:`torch.compile` and its arguments.

        With ``with_cp`` block by block: the compiler does not see into the recomputation around them.
        """
        if not self.with_cp:
            super().compile(*args, **kwargs)
            return
        for stage in self.stages():
            for block in stage:
                block.compile(*args, **kwargs)

    def _freeze_stages(self) -> None:
        # mmpretrain's constructors and train() call this by its name.
        if self.frozen_stages < 0:
            return
        getattr(self, self.stem_name).eval().requires_grad_(False)
        for stage in self.stages()[: self.frozen_stages]:
            for block in stage:
                block.eval().requires_grad_(False)
