"""Hard distillation (DeiT): a classifier that also learns the class that a frozen teacher sees in each image.

Source: Touvron et al., *Training data-efficient image transformers & distillation through attention*,
arXiv:2012.12877, eq. 3 and section 4, with a second classifier in place of the distillation token.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import timm
import torch
from mmengine.registry import MODELS
from mmpretrain.models import ImageClassifier, LinearClsHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn import functional as F

from fvnet_mm.engine.weights import PretrainedWeights
from fvnet_mm.errors import UserError


class Teacher:
    """A classifier of timm that labels images.

    It is no module, so the student that holds it has none of its weights in its state dict, its optimizer or its
    moving average, and a copy of the student shares it. It is built and loaded when it is first asked: a student that
    is tested needs no teacher.

    Args:
        num_classes: Classes of the student, which the teacher must know.
        model_name: timm's name. Its ``mean`` and ``std`` are those of the teacher's images.
        checkpoint: File or URL of its weights, all of which must be there. None leaves them random.
        allow_untrained: Whether ``checkpoint`` may be None.

    Raises:
        UserError: timm has no such model, or there is no checkpoint.
    """

    def __init__(
        self, num_classes: int, model_name: str, checkpoint: str | None = None, allow_untrained: bool = False
    ) -> None:
        if not timm.is_model(model_name):
            close = difflib.get_close_matches(model_name, timm.list_models(), n=3)
            hint = f"the closest names are {', '.join(close)}" if close else "timm.list_models() names all"
            raise UserError(f"timm has no model {model_name!r} to be the teacher; {hint}.")
        if checkpoint is None and not allow_untrained:
            raise UserError(
                f"the teacher {model_name} has no weights, so its labels would be noise; give it a checkpoint "
                "(model.teacher.checkpoint)."
            )
        self.num_classes = num_classes
        self.model_name = model_name
        self.checkpoint = checkpoint
        self._model: nn.Module | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> Teacher:
        return self

    @property
    def model(self) -> nn.Module:
        """The frozen model, in eval mode.

        Raises:
            UserError: The checkpoint does not fill it, as that of a teacher of other classes.
        """
        if self._model is None:
            with torch.random.fork_rng(devices=[]):  # the student's random numbers are the same after a resumption
                model = timm.create_model(self.model_name, pretrained=False, num_classes=self.num_classes)
            if self.checkpoint is not None:
                try:
                    PretrainedWeights(self.checkpoint, expected_share=1.0)(model)
                except UserError as error:
                    raise UserError(
                        f"the teacher {self.model_name} cannot label {self.num_classes} classes (it must know the "
                        f"very classes of the data; train on others without distillation): {error}"
                    ) from error
            self._model = model.eval().requires_grad_(False)
        return self._model

    @torch.no_grad()
    def labels(self, images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """The likeliest class of each image: (N,) int64.

        Args:
            images: (N, 3, H, W), RGB, as the student sees them: mixed, normalised.
            mean: Of that normalisation, (3, 1, 1), for pixels from 0 to 255.
            std: Likewise.
        """
        model = self.model
        if next(model.parameters()).device != images.device:
            model.to(images.device)
        own_mean, own_std = (
            255 * images.new_tensor(model.pretrained_cfg[key]).view(-1, 1, 1) for key in ("mean", "std")
        )
        return model(images * (std / own_std) + (mean - own_mean) / own_std).argmax(dim=1)


@MODELS.register_module()
class DistilledLinearClsHead(LinearClsHead):
    """Two linear classifiers of the same features: ``fc`` learns the label, ``teacher_fc`` the teacher's.

    Their mean is the prediction. Arguments are those of mmpretrain's ``LinearClsHead``; its ``loss`` is that of the
    label, and the teacher's is the cross entropy without smoothing, as in the paper.
    """

    def __init__(self, num_classes: int, in_channels: int, **settings: object) -> None:
        super().__init__(num_classes, in_channels, **settings)
        self.teacher_fc = nn.Linear(in_channels, num_classes)

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Mean logits of both classifiers: (N, num_classes)."""
        features = self.pre_logits(feats)
        return (self.fc(features) + self.teacher_fc(features)) / 2

    def loss(
        self, feats: tuple[Tensor, ...], data_samples: Sequence[DataSample], teacher_labels: Tensor
    ) -> dict[str, Tensor]:
        """Both classifiers' losses, each with half its weight; ``teacher_labels`` is (N,) int64."""
        features = self.pre_logits(feats)
        losses = self._get_loss(self.fc(features), data_samples)
        return {
            "loss_label": losses.pop("loss") / 2,
            "loss_teacher": F.cross_entropy(self.teacher_fc(features), teacher_labels) / 2,
            **losses,
        }


@MODELS.register_module()
class DistilledImageClassifier(ImageClassifier):
    """mmpretrain's ``ImageClassifier`` with a teacher while it trains; for testing it needs none.

    The teacher labels the very images that the student sees, mixed ones too.

    Args:
        teacher: Arguments of :class:`Teacher` but the number of classes, which is the head's.
        head: Of type ``DistilledLinearClsHead``.
        data_preprocessor: Must give normalised RGB images.
        settings: Other arguments of ``ImageClassifier``.

    Raises:
        ValueError: The head has no classifier for the teacher's labels, or the images are not normalised RGB.
        UserError: As :class:`Teacher`.
    """

    def __init__(
        self,
        teacher: Mapping[str, object],
        head: dict[str, object],
        data_preprocessor: dict[str, object],
        **settings: object,
    ) -> None:
        super().__init__(head=head, data_preprocessor=data_preprocessor, **settings)
        if not isinstance(self.head, DistilledLinearClsHead):
            raise ValueError(
                f"DistilledImageClassifier needs a head of type DistilledLinearClsHead, not {type(self.head).__name__}."
            )
        if not self.data_preprocessor.to_rgb or not hasattr(self.data_preprocessor, "mean"):
            raise ValueError(
                "a teacher of timm needs normalised RGB images; give the data_preprocessor to_rgb=True, mean and std."
            )
        self.teacher = Teacher(self.head.num_classes, **teacher)

    def loss(self, inputs: Tensor, data_samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """Losses of a batch of preprocessed images, (N, 3, H, W)."""
        teacher_labels = self.teacher.labels(inputs, self.data_preprocessor.mean, self.data_preprocessor.std)
        return self.head.loss(self.extract_feat(inputs), data_samples, teacher_labels)
