"""Trunks as CUDA graphs: what surrounds the capture, which here is a stand-in that computes as ever."""

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn

from fvnet_mm.backbones import FVNet
from fvnet_mm.engine.graphs import GraphedPart, GraphedTrunkHook
from fvnet_mm.errors import UserError


class Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.norm(self.conv(images)),)


class Neck(nn.Module):
    def forward(self, maps: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        return [2 * each for each in maps]


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[nn.Module, tuple[object, ...]]]:
    """What is captured. As torch's function does, the stand-in first computes a few passes."""
    calls: list[tuple[nn.Module, tuple[object, ...]]] = []

    def capture(module: nn.Module, samples: tuple[object, ...], allow_unused_input: bool) -> None:
        assert not module._forward_pre_hooks  # which torch refuses to capture
        for _ in range(3):
            module(*samples)
        calls.append((module, samples))

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    return calls


def runner(model: nn.Module, wrapper: type[OptimWrapper] = OptimWrapper, **settings: object) -> SimpleNamespace:
    cfg = Config(dict(model=dict(backbone=settings.get("backbone")), optim_wrapper=settings.get("optim_wrapper", {})))
    loader = SimpleNamespace(pin_memory=settings.get("pin_memory", False))
    return SimpleNamespace(model=model, optim_wrapper=object.__new__(wrapper), cfg=cfg, train_dataloader=loader)


def test_the_first_pass_in_training_is_captured_with_statistics_as_they_were(
    captured: list[tuple[nn.Module, tuple[object, ...]]],
) -> None:
    torch.manual_seed(0)
    model, images = nn.Module(), torch.randn(2, 3, 8, 8)
    model.backbone, model.neck = Trunk(), Neck()
    reference = copy.deepcopy(model)
    hook = GraphedTrunkHook()
    hook.before_train(runner(model))
    model.eval()
    model.neck(model.backbone(images))
    model.train()
    with torch.no_grad():
        model.neck(model.backbone(images))
    assert captured == []
    for each in (model, reference):
        each.load_state_dict(reference.state_dict())
        for _ in range(2):
            hook.before_train_iter(None, 0)
            each.neck(each.backbone(images))
    assert [module for module, _ in captured] == [model.backbone, model.neck]
    (image,), (maps,) = (samples for _, samples in captured)
    assert image.data_ptr() != images.data_ptr()
    assert not image.requires_grad
    assert [each.requires_grad for each in maps] == [True]
    assert maps[0].is_leaf
    for name, value in reference.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_a_smaller_batch_is_computed_and_another_size_refused_in_training_alone(
    captured: list[tuple[nn.Module, tuple[object, ...]]],
) -> None:
    trunk = Trunk()
    part = GraphedPart("backbone", trunk)
    trunk(torch.randn(2, 3, 8, 8))
    part._replay = None  # with which nothing is computed
    trunk(torch.randn(1, 3, 8, 8))
    part.used = False
    with pytest.raises(UserError, match=r"for inputs of \(2, 3, 8, 8\) and gets \(2, 3, 9, 8\); train on"):
        trunk(torch.randn(2, 3, 9, 8))
    trunk.eval()
    trunk(torch.randn(1, 3, 9, 9))
    assert len(captured) == 1


def test_a_second_call_in_a_step_is_refused(captured: list[tuple[nn.Module, tuple[object, ...]]]) -> None:
    trunk, images = Trunk(), torch.randn(2, 3, 8, 8)
    part = GraphedPart("backbone", trunk)
    for _ in range(3):
        part.used = False
        trunk(images)
    with pytest.raises(UserError, match="the backbone is called twice in a step"):
        trunk(images)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("operation not permitted when stream is capturing\nCompile with ..."), "operation .* capturing"),
        (AssertionError("Modules must not have hooks"), "Modules must not have hooks"),
        (AttributeError(), "AttributeError"),
    ],
)
def test_what_cannot_be_captured_is_said(monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str) -> None:
    def capture(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    trunk = Trunk()
    GraphedPart("backbone", trunk)
    with pytest.raises(UserError, match=rf"the backbone cannot be captured .*\({reason}\); leave"):
        trunk(torch.randn(2, 3, 8, 8))


def test_trainings_that_graphs_do_not_go_with() -> None:
    model = nn.Module()
    for refused, sentence in (
        (runner(model, optim_wrapper=dict(accumulative_counts=4)), "cannot add up the gradients of 4 batches"),
        (runner(model, AmpOptimWrapper), "are of float32"),
        (runner(object.__new__(MMDistributedDataParallel)), "one process, without --launcher"),
        (runner(model, pin_memory=True), "beside train_dataloader.pin_memory=True"),
        (runner(model, backbone=dict(frozen_stages=0)), "need frozen_stages=-1 and with_cp=False"),
        (runner(model, backbone=dict(with_cp=True)), "need frozen_stages=-1 and with_cp=False"),
    ):
        with pytest.raises(UserError, match=sentence):
            GraphedTrunkHook().before_train(refused)


def test_memory_that_does_not_suffice_is_no_fault_of_the_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def capture(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    trunk = Trunk()
    GraphedPart("backbone", trunk)
    with pytest.raises(torch.OutOfMemoryError):
        trunk(torch.randn(2, 3, 8, 8))


@pytest.mark.gpu
def test_a_graph_computes_what_fvnet_computes() -> None:
    torch.manual_seed(0)
    trunks = [FVNet("t").cuda().train()]
    trunks.append(copy.deepcopy(trunks[0]))
    part = GraphedPart("backbone", trunks[0])
    for _ in range(3):
        part.used = False
        images = torch.randn(2, 3, 64, 64, device="cuda")
        gradients = []
        for trunk in trunks:
            trunk.zero_grad()
            maps = trunk(images)
            sum(each.square().mean() for each in maps).backward()
            gradients.append(torch.cat([p.grad.flatten() for p in trunk.parameters() if p.grad is not None]))
        assert (gradients[0] - gradients[1]).norm() <= 1e-3 * gradients[1].norm()
    for name, value in trunks[1].state_dict().items():
        torch.testing.assert_close(trunks[0].state_dict()[name], value, rtol=1e-3, atol=1e-4)
