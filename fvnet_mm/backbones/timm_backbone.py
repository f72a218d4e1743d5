"""Any of timm's models that has a pyramid of features, as a trunk of the suite."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from .arch import STRIDES, check_flags, check_image_size, checked_frozen_stages, checked_out_indices
from .norms import hold_norms
from .timm_features import (
    check_name,
    classifier,
    constructor_parameters,
    create_trunk,
    features,
    requested_levels,
    try_out,
)

PREFIX = "timm_model."
"""What the names of a :class:`TimmBackbone`'s tensors have in front of timm's."""


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """A model of timm without its classifier.

    Built on the three things that all of timm's models with features have: ``feature_info``,
    ``prune_intermediate_layers`` and ``forward_intermediates``. Unlike ``features_only=True``, which takes some models
    apart and renames their tensors, they leave timm's names as they are.

    Whether the model takes images of any size, which parameters the outputs depend on, and which of them belong to
    frozen stages, is found by a trial run of an empty copy (on the meta device), not from the names of its modules.
    EfficientFormers, Visformers and Swin Transformers are made to take any size, as far as possible; models that only
    take multiples of 32 get images padded at the right and at the bottom.

    Weights come through ``init_cfg``; :func:`default_weights` says where timm's are.

    Args:
        model_name: timm's name, with or without a tag of weights, of which only the input size matters here.
        out_indices: Stages to return, in ascending order: 0 to 3 for the last features at strides 4, 8, 16 and 32,
            however timm counts.
        in_channels: Channels of the image.
        frozen_stages: -1 freezes nothing, 0 the stem (all in front of the module that gives the first stage), n the
            first n stages and all they depend on. Frozen parts are in eval mode and need no gradient.
        norm_eval: Keep batch norms in eval mode while training (fixed running statistics).
        with_cp: Compute activations again in the backward pass instead of keeping them, where timm does it: its running
            statistics of batch norms then count a batch twice.
        drop_path_rate: Stochastic depth, as timm distributes it; None leaves timm's default.
        init_cfg: As in :class:`mmengine.model.BaseModule`; None leaves timm's random initialisation.

    Attributes:
        unused_parameters: Names of those that timm leaves and no output depends on. They need no gradient.

    Raises:
        ValueError: There is no such model, it cannot be a trunk with these outputs, or an argument is outside what it
            allows.

    Example:
        >>> import torch
        >>> from fvnet_mm.backbones import TimmBackbone
        >>> trunk = TimmBackbone('resnet18', out_indices=(1, 2, 3)).eval()
        >>> for level in trunk(torch.rand(1, 3, 224, 224)):
        ...     print(tuple(level.shape))
        (1, 128, 28, 28)
        (1, 256, 14, 14)
        (1, 512, 7, 7)
    """

    def __init__(
        self,
        model_name: str,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        in_channels: int = 3,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        drop_path_rate: float | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.model_name = model_name
        self.out_indices = checked_out_indices(out_indices)
        self.frozen_stages = checked_frozen_stages(frozen_stages, self.out_indices[-1] + 1, self.out_indices)
        check_flags(norm_eval=norm_eval, with_cp=with_cp)
        self.norm_eval = norm_eval
        levels = requested_levels(model_name, self.out_indices)
        self.channels = tuple(level.channels for level in levels)
        self.strides = tuple(STRIDES[i] for i in self.out_indices)
        self._indices = [level.index for level in levels]
        trial = try_out(model_name, in_channels, self.out_indices, frozen_stages)
        self._size_divisor = trial.size_divisor
        self._frozen = trial.frozen
        self.unused_parameters = frozenset(PREFIX + name for name in trial.unused)

        options = {"in_chans": in_channels}
        if drop_path_rate is not None:
            if "drop_path_rate" not in constructor_parameters(model_name):
                raise ValueError(f"timm's '{model_name}' has no stochastic depth; leave out drop_path_rate.")
            if not 0 <= drop_path_rate < 1:
                raise ValueError(f"drop_path_rate must be at least 0 and less than 1, but is {drop_path_rate}.")
            options["drop_path_rate"] = drop_path_rate
        self.timm_model = create_trunk(model_name, self._indices, **options)
        self.timm_model.is_init = True  # timm has done it; mmengine shall not call its `init_weights` again
        if with_cp:
            self._checkpoint_activations()
        for name, parameter in self.timm_model.named_parameters():
            if name in trial.unused or name in trial.frozen:
                parameter.requires_grad_(False)
        self.train()

    @classmethod
    def stage_channels(cls, model_name: str, out_indices: Sequence[int] = (0, 1, 2, 3)) -> tuple[int, ...]:
        """Channels of the stages ``out_indices`` without allocating anything: for necks in configs.

        Raises:
            ValueError: There is no such model, or it lacks one of these stages.
        """
        return tuple(level.channels for level in requested_levels(model_name, checked_out_indices(out_indices)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Computes the requested levels of the pyramid.

        Args:
            x: Images, (N, in_channels, H, W), H and W at least 32.

        Returns:
            One (N, channels[i], H / strides[i], W / strides[i]) tensor per requested stage, rounded as in timm: up by
            most models, down by those whose patches leave out the last rows and columns (EdgeNeXt; PoolFormer at
            some sizes).

        Raises:
            ValueError: The image is too small.
        """
        check_image_size(x, self.model_name)
        if self._size_divisor == 1:
            return tuple(features(self.timm_model, x, self._indices))
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % self._size_divisor, 0, -height % self._size_divisor))
        outputs = features(self.timm_model, padded, self._indices)
        return tuple(
            output[..., : -(-height // stride), : -(-width // stride)]
            for output, stride in zip(outputs, self.strides, strict=True)
        )

    def train(self, mode: bool = True) -> TimmBackbone:
        """Sets the mode, keeping frozen stages (and with ``norm_eval`` batch norms) in eval mode."""
        super().train(mode)
        for name, module in self.timm_model.named_modules() if self._frozen else ():
            inside = {parameter for parameter, _ in module.named_parameters(name)}
            if inside and inside <= self._frozen:
                module.eval()
        if mode and self.norm_eval:
            hold_norms(self)
        return self

    def convert_state_dict(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A classifier's tensors under the names of this module's.

        Goes through timm's own conversion for the model, which also knows the names in the authors' repositories.
        Tensors that this trunk does not have (the classifier, stages that are not built) are renamed like the
        others; those that timm's conversion stumbles on, as they are another model's, only get the prefix. A state
        dict of this module is returned as it is. Whether the result fits is for its reader to see.

        Args:
            state_dict: Tensors of timm's or the authors' classifier, or of its trunk.
        """
        if any(name.startswith(PREFIX) for name in state_dict):
            return dict(state_dict)
        try:
            converted = _converted(dict(state_dict), classifier(self.model_name))
        except (AttributeError, IndexError, KeyError, RuntimeError, ValueError):
            converted = state_dict
        return {PREFIX + name: tensor for name, tensor in converted.items()}

    def _checkpoint_activations(self) -> None:
        try:
            self.timm_model.set_grad_checkpointing(True)
        except (AssertionError, AttributeError) as error:  # timm's ways to say so
            raise ValueError(
                f"timm's '{self.model_name}' cannot compute activations again in the backward pass; leave out with_cp."
            ) from error


def default_weights(model_name: str) -> dict[str, str | bool | None] | None:
    """Where timm has the weights of a model (of the tag in its name, else of the model's first).

    Args:
        model_name: timm's name.

    Returns:
        ``url``; ``license``, None where timm states none; ``distilled``: True where the tag says so, else None, for not
        known. None for a model without weights.

    Raises:
        ValueError: There is no such model.
    """
    check_name(model_name)
    cfg = get_pretrained_cfg(model_name)
    if cfg is None or not cfg.has_weights:
        return None
    url = cfg.url
    if cfg.hf_hub_id:
        url = f"https://huggingface.co/{cfg.hf_hub_id}/resolve/main/{cfg.hf_hub_filename or 'model.safetensors'}"
    distilled = any(word.startswith("dist") for word in (cfg.tag or "").split("_"))
    return dict(url=url, license=cfg.license, distilled=distilled or None)


def _converted(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """What timm would make of a checkpoint before loading it: it keeps a function for that beside a model's class."""
    module = sys.modules[type(model).__module__]
    for name in ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained"):
        if hasattr(module, name):
            convert = getattr(module, name)
            takes_model = len(inspect.signature(convert).parameters) > 1
            return convert(state_dict, model) if takes_model else convert(state_dict)
    return state_dict
