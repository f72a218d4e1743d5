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
from fvnet_mm.engine.graphs import GraphedTrunkHook, graph_at_first_pass
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


def runner(model: nn.Module, wrapper: type[OptimWrapper] = OptimWrapper, **options: int) -> SimpleNamespace:
    optim_wrapper = object.__new__(wrapper)
    return SimpleNamespace(model=model, optim_wrapper=optim_wrapper, cfg=Config(dict(optim_wrapper=options)))


def test_the_first_pass_in_training_is_captured_with_statistics_as_they_were(
    captured: list[tuple[nn.Module, tuple[object, ...]]],
) -> None:
    torch.manual_seed(0)
    model, images = nn.Module(), torch.randn(2, 3, 8, 8)
    model.backbone, model.neck = Trunk(), Neck()
    reference = copy.deepcopy(model)
    GraphedTrunkHook().before_train(runner(model))
    model.eval()
    model.neck(model.backbone(images))
    model.train()
    with torch.no_grad():
        model.neck(model.backbone(images))
    assert captured == []
    for each in (model, reference):
        each.load_state_dict(reference.state_dict())
        for _ in range(2):
            each.neck(each.backbone(images))
    assert [module for module, _ in captured] == [model.backbone, model.neck]
    (image,), (maps,) = (samples for _, samples in captured)
    assert image.data_ptr() != images.data_ptr()
    assert not image.requires_grad
    assert [each.requires_grad for each in maps] == [True]
    assert maps[0].is_leaf
    for name, value in reference.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_other_sizes_are_refused_in_training_alone(captured: list[tuple[nn.Module, tuple[object, ...]]]) -> None:
    trunk = Trunk()
    graph_at_first_pass("backbone", trunk)
    trunk(torch.randn(2, 3, 8, 8))
    with pytest.raises(
        UserError, match=r"for inputs of \(2, 3, 8, 8\) and gets \(1, 3, 8, 8\); train on batches of one"
    ):
        trunk(torch.randn(1, 3, 8, 8))
    trunk.eval()
    trunk(torch.randn(1, 3, 9, 9))
    assert len(captured) == 1


def test_what_cannot_be_captured_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def capture(*_: object, **__: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nCompile with ...")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    trunk = Trunk()
    graph_at_first_pass("backbone", trunk)
    with pytest.raises(UserError, match=r"the backbone cannot be captured .*\(operation .* capturing\); leave"):
        trunk(torch.randn(2, 3, 8, 8))


def test_trainings_that_graphs_do_not_go_with() -> None:
    model = nn.Module()
    with pytest.raises(UserError, match="cannot add up the gradients of 4 batches"):
        GraphedTrunkHook().before_train(runner(model, accumulative_counts=4))
    with pytest.raises(UserError, match="computes in float32"):
        GraphedTrunkHook().before_train(runner(model, AmpOptimWrapper))
    with pytest.raises(UserError, match="on one GPU"):
        GraphedTrunkHook().before_train(runner(object.__new__(MMDistributedDataParallel)))


@pytest.mark.gpu
def test_a_graph_computes_what_fvnet_computes() -> None:
    torch.manual_seed(0)
    trunks = [FVNet("t").cuda().train()]
    trunks.append(copy.deepcopy(trunks[0]))
    graph_at_first_pass("backbone", trunks[0])
    for _ in range(3):
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
