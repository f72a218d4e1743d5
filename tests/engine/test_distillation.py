import copy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import normalize

from fvnet_mm.backbones import FVNet
from fvnet_mm.engine.distillation import DistilledImageClassifier, Teacher
from fvnet_mm.errors import UserError

TEACHER = "test_resnet.r160_in1k"  # 0.5 M parameters, and another normalisation than ImageNet's usual one
CLASSES = 7


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a teacher of seven classes that gives different images different labels."""
    torch.manual_seed(1)
    model = timm.create_model(TEACHER, num_classes=CLASSES)
    model.train()(torch.randn(32, 3, 1, 1) + 0.3 * torch.randn(32, 3, 64, 64))  # batch norms with statistics
    nn.init.normal_(model.fc.weight)
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.save(model.state_dict(), path)
    return path


def load(num_classes: int, checkpoint: Path) -> nn.Module:
    return Teacher(num_classes, TEACHER, str(checkpoint)).model


def build(teacher: dict[str, object], **changes: object) -> DistilledImageClassifier:
    torch.manual_seed(0)
    arch = dict(channels=(16, 16, 24, 32), depths=(1, 1, 1, 1))
    config = dict(
        type="DistilledImageClassifier",
        data_preprocessor=dict(
            type="mmpretrain.ClsDataPreprocessor",
            num_classes=CLASSES,
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            to_rgb=True,
        ),
        backbone=dict(type=FVNet, arch=arch, out_indices=(3,)),
        neck=dict(type="mmpretrain.GlobalAveragePooling"),
        head=dict(
            type="DistilledLinearClsHead",
            in_channels=32,
            num_classes=CLASSES,
            loss=dict(type="mmpretrain.LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
        ),
        train_cfg=dict(augments=[dict(type="Mixup", alpha=0.8)]),
        teacher=teacher,
    )
    with DefaultScope.overwrite_default_scope("mmpretrain"):  # a training that ran before may have left another
        return MODELS.build({**config, **changes})


@pytest.fixture
def model(checkpoint: Path) -> DistilledImageClassifier:
    model = build(dict(model_name=TEACHER, checkpoint=str(checkpoint)))
    model.init_weights()
    return model


@pytest.fixture
def batch() -> dict[str, list]:
    """Eight BGR images of 64 x 64 pixels from 0 to 255, each in another colour, with labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 3, 1, 1)) * 0.8 + rng.integers(0, 52, (8, 3, 64, 64))
    samples = [DataSample().set_gt_label(number % CLASSES) for number in range(8)]
    return dict(inputs=list(torch.tensor(images, dtype=torch.uint8)), data_samples=samples)


def test_teacher_sees_the_images_as_timm_would_give_them(
    model: DistilledImageClassifier, batch: dict, checkpoint: Path
) -> None:
    seen = []
    model.teacher.model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    data = model.data_preprocessor(copy.deepcopy(batch), training=False)
    model.loss(data["inputs"], data["data_samples"])

    original = timm.create_model(TEACHER, num_classes=CLASSES, checkpoint_path=str(checkpoint)).eval()
    settings = original.pretrained_cfg
    images = torch.stack([image.flip(0) / 255 for image in batch["inputs"]])
    expected = normalize(images, settings["mean"], settings["std"])
    torch.testing.assert_close(seen[0], expected)
    labels = model.teacher.labels(data["inputs"], model.data_preprocessor.mean, model.data_preprocessor.std)
    assert torch.equal(labels, original(expected).argmax(1))
    assert labels.unique().numel() > 1


def test_losses_are_those_of_the_paper_on_mixed_images(model: DistilledImageClassifier, batch: dict) -> None:
    """Eq. 3, with labels smoothed by 0.1 and a teacher's label that is neither mixed nor smoothed."""
    model.train()
    data = model.data_preprocessor(batch, training=True)
    losses = model.loss(data["inputs"], data["data_samples"])
    assert losses.keys() == {"loss_label", "loss_teacher"}

    features = model.extract_feat(data["inputs"])[0]
    targets = torch.stack([sample.gt_score for sample in data["data_samples"]])
    assert ((targets > 0).sum(1) > 1).any(), "nothing was mixed"
    smoothed = 0.9 * targets + 0.1 / CLASSES
    labels = model.teacher.labels(data["inputs"], model.data_preprocessor.mean, model.data_preprocessor.std)
    torch.testing.assert_close(losses["loss_label"], F.cross_entropy(model.head.fc(features), smoothed) / 2)
    torch.testing.assert_close(losses["loss_teacher"], F.cross_entropy(model.head.teacher_fc(features), labels) / 2)
    total, logged = model.parse_losses(losses)
    assert total == logged["loss"] == losses["loss_label"] + losses["loss_teacher"]


def test_gradients_reach_the_student_alone(model: DistilledImageClassifier, batch: dict) -> None:
    before = copy.deepcopy(model.teacher.model.state_dict())
    model.train()
    data = model.data_preprocessor(batch, training=True)
    model.parse_losses(model.loss(data["inputs"], data["data_samples"]))[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert parameter.grad.isfinite().all(), name
    assert all(parameter.grad is None for parameter in model.teacher.model.parameters())
    assert not any(module.training for module in model.teacher.model.modules())
    for name, tensor in model.teacher.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_teacher_is_no_part_of_the_student(model: DistilledImageClassifier) -> None:
    plain = build(dict(model_name=TEACHER, allow_untrained=True))
    assert model.state_dict().keys() == plain.state_dict().keys()
    teachers = set(model.teacher.model.parameters())
    assert teachers.isdisjoint(model.parameters())
    assert copy.deepcopy(model).teacher is model.teacher
    model.to("meta")
    assert next(iter(teachers)).device.type == "cpu"


def test_predictions_are_the_mean_of_both_classifiers(model: DistilledImageClassifier, batch: dict) -> None:
    model.eval()
    data = model.data_preprocessor(batch, training=False)
    features = model.extract_feat(data["inputs"])[0]
    logits = torch.stack([classifier(features) for classifier in (model.head.fc, model.head.teacher_fc)]).mean(0)
    torch.testing.assert_close(model(data["inputs"], mode="tensor"), logits)
    for sample, scores in zip(model(**data, mode="predict"), logits.softmax(1), strict=True):
        torch.testing.assert_close(sample.pred_score, scores)
        assert sample.pred_label == scores.argmax()


def test_a_student_is_tested_without_its_teacher(batch: dict) -> None:
    model = build(dict(model_name=TEACHER, checkpoint="/nowhere/teacher.pth")).eval()
    assert len(model.test_step(batch)) == 8
    with pytest.raises(UserError, match=r"/nowhere/teacher\.pth does not exist"):
        model.loss(torch.zeros(1, 3, 64, 64), [])


def test_building_the_teacher_leaves_the_random_numbers_alone(checkpoint: Path) -> None:
    state = torch.get_rng_state()
    assert load(CLASSES, checkpoint).num_classes == CLASSES
    assert torch.equal(torch.get_rng_state(), state)


def test_teachers_that_cannot_teach(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"its labels would be noise"):
        Teacher(CLASSES, TEACHER)
    with pytest.raises(UserError, match=r"timm has no model 'regnety_161.* regnety_160"):
        Teacher(CLASSES, "regnety_161.deit_in1k", "teacher.pth")
    with pytest.raises(UserError, match=r"cannot label 8 classes .*fc\.weight"):
        load(8, checkpoint)
    weights = torch.load(checkpoint, weights_only=True)
    torch.save({name: tensor for name, tensor in weights.items() if name != "fc.bias"}, tmp_path / "part.pth")
    with pytest.raises(UserError, match=r"missing: .*fc\.bias"):
        load(CLASSES, tmp_path / "part.pth")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            dict(head=dict(type="mmpretrain.LinearClsHead", in_channels=32, num_classes=CLASSES)),
            "needs a head of type DistilledLinearClsHead, not LinearClsHead",
        ),
        (
            dict(data_preprocessor=dict(type="mmpretrain.ClsDataPreprocessor", to_rgb=True)),
            "needs normalised RGB images",
        ),
    ],
)
def test_students_that_cannot_learn(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(dict(model_name=TEACHER, allow_untrained=True), **changes)
