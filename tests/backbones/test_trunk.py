"""The contract that every trunk wrapped from mmpretrain keeps."""

import math
from collections.abc import Callable

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from fvnet_mm.backbones import SuiteEfficientFormer, SuiteMobileNetV2, SuiteMobileNetV3
from fvnet_mm.backbones.arch import STRIDES
from fvnet_mm.backbones.trunk import StagedTrunk

SMALL_EFFICIENTFORMER = {
    "layers": [1, 2, 2, 3],
    "embed_dims": [16, 24, 32, 40],
    "downsamples": [False, True, True, True],
    "vit_num": 2,
}
TRUNKS = {
    "efficientformer": (SuiteEfficientFormer, {"arch": SMALL_EFFICIENTFORMER}),
    "mobilenet_v2": (SuiteMobileNetV2, {"widen_factor": 0.25}),
    "mobilenet_v3": (SuiteMobileNetV3, {"arch": "small_050"}),
}
LEVELS = [(0, 1, 2, 3), (1, 2, 3), (0, 2), (0,)]

Build = Callable[..., StagedTrunk]


@pytest.fixture(params=TRUNKS)
def build(request: pytest.FixtureRequest) -> Build:
    """Builds one of the trunks, small, with the given arguments."""
    torch.manual_seed(0)
    cls, small = TRUNKS[request.param]

    def make(**arguments: object) -> StagedTrunk:
        net = cls(**small, **arguments)
        for name, parameter in net.named_parameters():
            if ".ls" in name:  # EfficientFormer's layer scales begin at 1e-5, where nothing would show
                nn.init.uniform_(parameter, 0.5, 1.5)
        return net

    return make


def image(height: int = 97, width: int = 65, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width)


def total(outputs: tuple[Tensor, ...]) -> Tensor:
    return sum((y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum() for y in outputs)


@pytest.mark.parametrize("size", [(32, 32), (33, 97), (97, 65), (224, 224), (128, 333)])
@pytest.mark.parametrize("levels", LEVELS)
def test_shapes(build, levels, size):
    net = build(out_indices=levels).eval()
    assert net.out_indices == levels
    assert net.strides == tuple(STRIDES[i] for i in levels)
    with torch.no_grad():
        outputs = net(image(*size, batch=1))
    assert isinstance(outputs, tuple)
    assert [tuple(y.shape) for y in outputs] == [
        (1, channels, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
        for channels, stride in zip(net.channels, net.strides, strict=True)
    ]


@pytest.mark.parametrize("levels", LEVELS)
def test_every_trainable_parameter_gets_a_gradient(build, levels):
    net = build(out_indices=levels).train()
    total(net(image())).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_fewer_levels_are_the_same_levels(build):
    whole, part = build().eval(), build(out_indices=(0, 2)).eval()
    missing, _ = part.load_state_dict(whole.state_dict(), strict=False)
    assert missing == []
    x = image()
    with torch.no_grad():
        outputs = whole(x)
        for y, z in zip(part(x), (outputs[0], outputs[2]), strict=True):
            assert torch.equal(y, z)


@pytest.mark.parametrize("frozen", range(-1, 5))
def test_frozen_stages(build, frozen):
    net = build(frozen_stages=frozen).train()
    parts = [[getattr(net, net.stem_name)], *net.stages()]
    assert sum(p.numel() for part in parts for block in part for p in block.parameters()) == sum(
        p.numel() for name, p in net.named_parameters() if not name.startswith("norm")
    )
    for i, part in enumerate(parts):
        for block in part:
            assert all(p.requires_grad != (i <= frozen) for p in block.parameters())
            assert all(m.training != (i <= frozen) for m in block.modules())
    assert all(p.requires_grad for name, p in net.named_parameters() if name.startswith("norm"))
    before = {name: value.clone() for name, value in net.named_buffers()}
    if frozen < 4 or any(p.requires_grad for p in net.parameters()):
        total(net(image())).backward()
    for part, blocks in enumerate(parts):
        for block in blocks:
            names = {id(value): name for name, value in net.named_buffers()}
            for name, value in block.named_buffers():
                if name.endswith("running_mean"):
                    assert torch.equal(value, before[names[id(value)]]) == (part <= frozen)
    assert all((p.grad is not None) == p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("norm_eval", [False, True])
def test_norm_eval(build, norm_eval):
    net = build(norm_eval=norm_eval)
    assert net.train() is net
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(norm.training != norm_eval for norm in norms)
    assert net.training
    assert all(block.training for stage in net.stages() for block in stage)


def test_modes_return_the_network(build):
    net = build(frozen_stages=1, norm_eval=True)
    assert net.train() is net
    assert net.eval() is net
    assert not any(m.training for m in net.modules())


@pytest.mark.parametrize("frozen", [-1, 0, 2])
def test_checkpointing_changes_nothing(build, frozen):
    plain, saving = build(frozen_stages=frozen).train(), build(frozen_stages=frozen, with_cp=True).train()
    saving.load_state_dict(plain.state_dict())
    x = image()
    for net in (plain, saving):
        total(net(x)).backward()
    for (name, p), q in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, msg=name)
    for (name, p), q in zip(plain.named_buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(q, p, msg=name)


def test_checkpointing_keeps_fewer_activations(build):
    def saved(net: StagedTrunk) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            net(image())
        return sum(sizes)

    assert saved(build(with_cp=True)) < 0.5 * saved(build())


@pytest.mark.parametrize("with_cp", [False, True])
def test_compiled_in_place_it_computes_the_same(build, with_cp):
    torch.compiler.reset()
    plain, compiled = build(with_cp=with_cp).train(), build(with_cp=with_cp).train()
    compiled.load_state_dict(plain.state_dict())
    seen = []

    def backend(graph, inputs):
        seen.append(graph)
        return graph.forward

    compiled.compile(backend=backend)
    x = torch.randn(2, 3, 64, 64)
    results = []
    for trunk in (plain, compiled):
        outputs = trunk(x)
        sum(output.square().mean() for output in outputs).backward()
        results.append([*outputs, *(p.grad for p in trunk.parameters() if p.grad is not None)])
    assert seen
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-5)


def test_checkpointing_two_sizes_before_one_backward_pass(build):
    plain, saving = build(norm_eval=True).train(), build(norm_eval=True, with_cp=True).train()
    saving.load_state_dict(plain.state_dict())
    x, y = image(), image(64, 128)
    for net in (plain, saving):
        (total(net(x)) + total(net(y))).backward()
    for (name, p), q in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, msg=name)


@pytest.mark.parametrize("library", ["mmengine", "mmdet", "mmseg", "mmpretrain"])
def test_every_library_finds_it(build, library):
    registry = MODELS if library == "mmengine" else pytest.importorskip(f"{library}.registry").MODELS
    net = build()
    assert registry.get(type(net).__name__) is type(net)


def test_bad_arguments(build):
    with pytest.raises(ValueError, match=r"^out_indices must be stage numbers from 0 to 3 in ascending order"):
        build(out_indices=(3, 4))
    with pytest.raises(ValueError, match=r"^frozen_stages must be from -1 \(nothing\) to 2"):
        build(out_indices=(0, 1), frozen_stages=3)
    with pytest.raises(ValueError, match="norm_eval must be True or False, but is 'no'"):
        build(norm_eval="no")
    with pytest.raises(ValueError, match="with_cp must be True or False, but is 1"):
        build(with_cp=1)
    with pytest.raises(ValueError, match="needs images of at least 32x32 pixels, but got 31x64"):
        build()(image(31, 64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_close(build, dtype):
    net = build().train()
    x = image(batch=4)
    with torch.no_grad():
        for _ in range(20):
            net(x)
        exact = net.eval()(x)
        with torch.autocast("cpu", dtype):
            rough = net(x)
    for y, z in zip(exact, rough, strict=True):
        assert (y - z).norm() < 0.05 * y.norm()


def test_autocast_trains(build):
    net = build().train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = total(net(image()))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_exports(build):
    net = build().eval()
    x = image()
    exported = torch.export.export(net, (x,)).module()
    traced = torch.jit.trace(net, x)
    with torch.no_grad():
        for y, z, t in zip(net(x), exported(x), traced(x), strict=True):
            torch.testing.assert_close(z, y)
            torch.testing.assert_close(t, y)


def test_compiles_without_a_graph_break(build):
    net = build().eval()
    x = image()
    with torch.no_grad():
        compiled = torch.compile(net, fullgraph=True, backend="eager")(x)
        for y, z in zip(net(x), compiled, strict=True):
            torch.testing.assert_close(y, z)


def test_initialises_like_mmpretrain(build):
    """``init_cfg=None`` leaves what mmpretrain initialises, and what is dropped is not missed."""
    net = build(out_indices=(1,))
    net.init_weights()
    assert all(p.isfinite().all() for p in net.parameters())
