"""EfficientFormer of mmpretrain as a trunk of the suite, for images of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.registry import MODELS
from mmpretrain.models.backbones.efficientformer import AttentionWithBias, EfficientFormer, Flat, Meta3D
from torch import Tensor, nn

from .arch import checked_out_indices
from .position_bias import AnySizeBias, square_table_size
from .trunk import StagedTrunk


class Permute(nn.Module):
    """Dimensions in another order."""

    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.dims)


class AnySizeAttention(AnySizeBias, AttentionWithBias):
    """mmpretrain's attention on a feature map of any size: (N, H, W, C) -> (N, H, W, C).

    Args:
        channels: Channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.set_table_size(square_table_size(self.attention_biases))

    def forward(self, x: Tensor) -> Tensor:
        size = (int(x.shape[1]), int(x.shape[2]))
        qkv = self.qkv(x).flatten(1, 2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        queries, keys, values = qkv.split([self.key_dim, self.key_dim, self.d], dim=-1)
        # Scaled before the product, which could leave the range of float16 otherwise.
        attention = ((queries * self.scale) @ keys.transpose(-2, -1) + self.bias(size)).softmax(dim=-1)
        return self.proj((attention @ values).transpose(1, 2).flatten(2).unflatten(1, size))


@MODELS.register_module()
class SuiteEfficientFormer(StagedTrunk, EfficientFormer):
    """EfficientFormer (Li et al., NeurIPS 2022), mmpretrain's network and tensor names, at any image size.

    The blocks with attention work on (N, H, W, C) instead of (N, H * W, C), so the attention knows the size of the
    feature map and resizes its biases to it (see :mod:`~.position_bias`). At 224 x 224 pixels the outputs are
    mmpretrain's with ``reshape_last_feat=True``. Each requested stage has a norm of its own, a group norm of
    one group; those of the first three stages are not part of any published classifier.

    Args:
        arch: 'l1', 'l3', 'l7', or a dict as for :class:`mmpretrain.models.EfficientFormer`.
        out_indices: Stages (0 to 3) to return, in ascending order. What lies behind the last is not there.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages. Output norms stay
            trainable.
        norm_eval: Keep batch norms in eval mode while training (fixed running statistics).
        with_cp: Keep only the inputs of blocks and compute the rest again in the backward pass.
        drop_path_rate: Probability of dropping the last block's residual branches; it rises linearly from 0.
        init_cfg: As in :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: An argument is outside what it allows.
    """

    stem_name = "patch_embed"

    def __init__(
        self,
        arch: str | Mapping[str, list | int] = "l1",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        drop_path_rate: float = 0.0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        out_indices = checked_out_indices(out_indices)
        if isinstance(arch, str) and arch not in self.arch_settings:
            raise ValueError(f"arch '{arch}' does not exist; choose one of {', '.join(self.arch_settings)}.")
        super().__init__(
            arch,
            reshape_last_feat=True,
            out_indices=list(out_indices),
            drop_path_rate=drop_path_rate,
            init_cfg=init_cfg,
        )
        for stage in self.network:
            self._keep_maps(stage)
        num_stages = out_indices[-1] + 1
        del self.network[num_stages:]
        self.set_stages(self.embed_dims[:num_stages], out_indices, frozen_stages, norm_eval, with_cp)

    @staticmethod
    def _keep_maps(stage: nn.Sequential) -> None:
        """Lets the blocks with attention, which work on the last dimension, see a map instead of tokens."""
        for i, block in enumerate(stage):
            if isinstance(block, Flat):
                stage[i] = Permute(0, 2, 3, 1)
            elif isinstance(block, Meta3D):
                block.token_mixer = AnySizeAttention(block.token_mixer.proj.out_features)
        if isinstance(stage[-1], Meta3D):
            stage.append(Permute(0, 3, 1, 2))

    def stages(self) -> Sequence[nn.Sequential]:
        """The blocks of every stage that is built, its downsampling first."""
        return self.network

    def output(self, stage: int, x: Tensor) -> Tensor:
        """The normed features of a stage."""
        return getattr(self, f"norm{stage}")(x).contiguous()
