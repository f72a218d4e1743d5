"""FVNets as timm models: ``timm.create_model('fvnet_s')`` once :mod:`fvnet_mm.backbones` is imported.

The names of a classifier's trunk all begin with ``backbone.``, so its checkpoint loads into a detector's trunk
by ``FVNet('s', init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone'))``.
"""

from __future__ import annotations

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ClassifierHead
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from .arch import MIN_SIZE, STRIDES
from .fvnet import FVNet

LAST_STAGE = len(STRIDES) - 1

default_cfgs = generate_default_cfgs(
    {
        f"fvnet_{arch}.untrained": {
            "input_size": (3, 224, 224),
            "min_input_size": (3, MIN_SIZE, MIN_SIZE),
            "pool_size": (7, 7),
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": "backbone.stem.conv1.conv",
            "classifier": "head.fc",
            "license": "apache-2.0",
        }
        for arch in FVNet.arch_settings
    }
)


class FVNetClassifier(nn.Module):
    """:class:`~.fvnet.FVNet` under timm's contract: (N, in_chans, H, W) -> (N, num_classes).

    Intermediate features are the stages' outputs before the output norm, as in timm's other models.

    Args:
        arch: Name of an architecture.
        in_chans: Channels of the image.
        num_classes: Number of classes; 0 leaves the classifier out.
        global_pool: Global pooling, as in :class:`timm.layers.ClassifierHead`.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth of the last block.
    """

    def __init__(
        self,
        arch: str,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.drop_rate = drop_rate
        self.backbone = FVNet(arch, out_indices=(LAST_STAGE,), in_channels=in_chans, drop_path_rate=drop_path_rate)
        self.feature_info = [
            {"num_chs": channels, "reduction": stride, "module": f"backbone.stages.{i}"}
            for i, (channels, stride) in enumerate(zip(FVNet.stage_channels(arch), STRIDES, strict=True))
        ]
        self.num_features = self.head_hidden_size = self.backbone.channels[-1]
        self.head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)

    @property
    def norm(self) -> nn.Module:
        """Norm behind the last stage."""
        return getattr(self.backbone, f"norm{LAST_STAGE}")

    def group_matcher(self, coarse: bool = False) -> dict[str, str | list[tuple[str, tuple[int, ...] | None]]]:
        """Patterns that order the parameters by depth, for timm's layer-wise learning-rate decay."""
        return {
            "stem": r"^backbone\.stem",
            "blocks": r"^backbone\.stages\.(\d+)"
            if coarse
            else [
                (r"^backbone\.stages\.(\d+)\.downsample", (0,)),
                (r"^backbone\.stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^backbone\.norm", (99999,)),
            ],
        }

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only the inputs of blocks in the forward pass and compute the rest again in the backward pass."""
        for stage in self.backbone.stages:
            stage.with_cp = enable

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the classifier by a new one, and the pooling if one is named."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Outputs of some stages and, unless ``intermediates_only``, the last features before it.

        Args:
            x: Images, (N, in_chans, H, W).
            indices: Stages by number, the last n for a number, all for None.
            norm: Apply the output norm to the last stage's entry.
            stop_early: Do not compute stages behind the last that is asked for.
            output_fmt: ``'NCHW'``.
            intermediates_only: Return the list alone.

        Raises:
            ValueError: Another ``output_fmt``.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', but is '{output_fmt}'.")
        take, last = feature_take_indices(len(self.backbone.stages), indices)
        outputs = self.backbone.stage_outputs(x, num_stages=last + 1 if stop_early else None)
        final = self.norm(outputs[-1]) if len(outputs) > LAST_STAGE else outputs[-1]
        intermediates = [final if norm and i == LAST_STAGE else outputs[i] for i in take]
        return intermediates if intermediates_only else (final, intermediates)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drops what the stages ``indices`` do not need; returns their numbers."""
        take, last = feature_take_indices(len(self.backbone.stages), indices)
        self.backbone.stages = self.backbone.stages[: last + 1]
        if prune_norm or last < LAST_STAGE:
            setattr(self.backbone, f"norm{LAST_STAGE}", nn.Identity())
        if last < LAST_STAGE:
            self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
        if prune_head or last < LAST_STAGE:
            self.num_classes = 0
            self.head.reset(0, "", in_features=self.num_features)
        return take

    def forward_features(self, x: Tensor) -> Tensor:
        """Normed features of the last stage, (N, C, ceil(H / 32), ceil(W / 32))."""
        return self.norm(self.backbone.stage_outputs(x)[-1])

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Class scores of features, (N, num_classes), or pooled features, (N, C), for ``pre_logits``."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def _create_fvnet(arch: str, pretrained: bool, **kwargs: bool | int | float | str | tuple[int, ...]) -> nn.Module:
    """Builds ``fvnet_{arch}`` by timm's rules; what neither timm nor :class:`FVNetClassifier` knows is an error."""
    return build_model_with_cfg(
        FVNetClassifier,
        f"fvnet_{arch}",
        pretrained,
        feature_cfg={"feature_cls": "getter", "out_indices": tuple(range(len(STRIDES)))},
        arch=arch,
        **kwargs,
    )


@register_model
def fvnet_n(pretrained: bool = False, **kwargs) -> nn.Module:
    """FVNet-N."""
    return _create_fvnet("n", pretrained, **kwargs)


@register_model
def fvnet_t(pretrained: bool = False, **kwargs) -> nn.Module:
    """FVNet-T."""
    return _create_fvnet("t", pretrained, **kwargs)


@register_model
def fvnet_s(pretrained: bool = False, **kwargs) -> nn.Module:
    """FVNet-S."""
    return _create_fvnet("s", pretrained, **kwargs)


@register_model
def fvnet_m(pretrained: bool = False, **kwargs) -> nn.Module:
    """FVNet-M."""
    return _create_fvnet("m", pretrained, **kwargs)


@register_model
def fvnet_l(pretrained: bool = False, **kwargs) -> nn.Module:
    """FVNet-L."""
    return _create_fvnet("l", pretrained, **kwargs)
