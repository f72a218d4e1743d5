import copy
import dataclasses
import doctest
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from fvnet_mm.backbones import FVNet, FVNetArch, fvnet
from fvnet_mm.backbones.arch import MIN_SIZE, STRIDES
from fvnet_mm.bench.complexity import count_macs, count_parameters

BUDGETS = {"n": (1.80e6, 0.28e9), "t": (4.0e6, 0.6e9), "s": (5.6e6, 0.98e9), "m": (11.1e6, 1.3e9), "l": (31e6, 4.5e9)}
SMALL = {"channels": (16, 24, 32, 40), "depths": (1, 2, 2, 1)}
LEVELS = [(0, 1, 2, 3), (1, 2, 3), (0, 2), (3,), (0,)]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def image(height: int = 64, width: int = 64, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, height, width)


def total(outputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """A scalar that depends on every output; their plain sum would be a norm's bias and nothing else."""
    return sum((y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum() for y in outputs)


def randomise_norms(net: nn.Module) -> None:
    """Random affine parts, and the running statistics that images then give."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
        norm.momentum = None
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(2 + 3 * image(96, 96))


@pytest.mark.parametrize("arch", BUDGETS)
def test_budget_is_kept(arch):
    net = FVNet(arch)
    parameters, macs = BUDGETS[arch]
    assert count_parameters(net) <= parameters
    assert 0.6 * macs <= count_macs(net, (1, 3, 224, 224)) <= macs


def test_every_variant_has_a_budget():
    assert set(FVNet.arch_settings) == set(BUDGETS)


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(MIN_SIZE, 150),
    width=st.integers(MIN_SIZE, 150),
    levels=st.sets(st.integers(0, 3), min_size=1),
)
def test_shapes(height, width, levels):
    net = FVNet(SMALL, out_indices=sorted(levels)).eval()
    with torch.no_grad():
        outputs = net(image(height, width, batch=1))
    assert [y.shape for y in outputs] == [
        (1, channels, math.ceil(height / stride), math.ceil(width / stride))
        for channels, stride in zip(net.channels, net.strides, strict=True)
    ]


@pytest.mark.parametrize("size", [(32, 32), (97, 33), (224, 224), (127, 321)])
def test_shapes_of_a_variant(size):
    with torch.no_grad():
        outputs = FVNet("t").eval()(image(*size, batch=1))
    assert [tuple(y.shape[-2:]) for y in outputs] == [
        (math.ceil(size[0] / stride), math.ceil(size[1] / stride)) for stride in STRIDES
    ]


@pytest.mark.parametrize("levels", LEVELS)
def test_channels_and_strides(levels):
    net = FVNet(SMALL, out_indices=levels)
    assert net.channels == tuple(SMALL["channels"][i] for i in levels)
    assert net.strides == tuple(2 ** (i + 2) for i in levels)
    assert FVNet.stage_channels(SMALL, levels) == net.channels


def test_channels_without_building():
    assert FVNet.stage_channels("s") == FVNet.arch_settings["s"].channels
    assert FVNet.get_arch(dataclasses.asdict(FVNet.arch_settings["m"])) == FVNet.arch_settings["m"]
    assert FVNet.get_arch({"channels": [16, 24, 32, 40], "depths": [1, 2, 2, 1]}) == FVNetArch(**SMALL)


@pytest.mark.parametrize("levels", [(), (-1,), (4,), (0, 4), (1, 0), (1, 1), (0.5,), (0.0, 1.0), "0", 3])
def test_bad_out_indices(levels):
    with pytest.raises(ValueError, match=r"^out_indices must be stage numbers from 0 to 3 in ascending order"):
        FVNet(SMALL, out_indices=levels)
    with pytest.raises(ValueError, match=r"^out_indices must be stage numbers from 0 to 3"):
        FVNet.stage_channels("s", levels)


def test_unknown_arch_lists_those_that_exist():
    with pytest.raises(ValueError, match=r"^arch 'xl' does not exist; choose one of n, t, s, m, l\.$"):
        FVNet("xl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": (1, 1, 1, 1)}, "a dict with the keys"),
        ({"depths": (1, 1, 1)}, r"arch\['depths'\] must have one entry for each of the 4 stages"),
        ({"depths": 3}, r"arch\['depths'\] must have one entry for each of the 4 stages"),
        ({"deep_stem": "no"}, r"arch\['deep_stem'\] must be True or False, but is 'no'"),
        ({"depths": (1, 1, 0, 1)}, "whole numbers of channels, at least 2, and of blocks, at least 1"),
        ({"depths": (1, 1, 2.0, 1)}, "whole numbers of channels, at least 2, and of blocks, at least 1"),
        ({"channels": (1, 24, 32, 40)}, "whole numbers of channels, at least 2, and of blocks, at least 1"),
        ({"expansions": (0, 1, 1, 1)}, "positive numbers that leave a hidden channel"),
        ({"expansions": (1, math.nan, 1, 1)}, "positive numbers that leave a hidden channel"),
        ({"expansions": (1, 1, math.inf, 1)}, "positive numbers that leave a hidden channel"),
        ({"expansions": (0.01, 1, 1, 1)}, "positive numbers that leave a hidden channel"),
        ({"expansions": ("2", 1, 1, 1)}, "positive numbers that leave a hidden channel"),
        ({"phases": ((3, 1),) * 4}, r"\(kernel_size, grid\) pairs"),
        ({"phases": (3,) * 4}, "must have 1 to 16 phases"),
        ({"phases": ((("3", 1),),) * 4}, r"\(kernel_size, grid\) pairs"),
        ({"phases": (((4, 1),),) * 4}, "of an odd number and a power of two"),
        ({"phases": (((3, 0),),) * 4}, "of an odd number and a power of two"),
        ({"phases": (((3, 6),),) * 4}, "of an odd number and a power of two"),
        ({"phases": (((3,),),) * 4}, r"\(kernel_size, grid\) pairs"),
        ({"phases": ((),) * 4}, r"must have 1 to 16 phases"),
        ({"phases": (((3, 1),) * 17,) * 4}, r"must have 1 to 16 phases"),
    ],
)
def test_bad_arch(change, message):
    with pytest.raises(ValueError, match=message):
        FVNet(SMALL | change)


@pytest.mark.parametrize("name", ["channels", "depths", "expansions", "phases"])
def test_a_field_in_place_of_the_archs(name):
    other = dataclasses.asdict(FVNet.get_arch("t")) | {
        "channels": (16, 24, 32, 40),
        "depths": (1, 2, 2, 1),
        "expansions": (2.0, 4.0, 2.0, 4.0),
        "phases": (((3, 1),), ((5, 1),), ((3, 1), (3, 2)), ((3, 4),)),
    }
    net = FVNet("t", **{name: other[name]})
    assert net.arch == dataclasses.replace(FVNet.get_arch("t"), **{name: other[name]})
    assert FVNet("t", **{name: list(other[name])}).arch == net.arch
    with pytest.raises(ValueError, match=f"arch\\['{name}'\\] must have one entry for each of the 4 stages"):
        FVNet("t", **{name: other[name][:3]})


def test_what_all_blocks_are_told():
    net = FVNet(SMALL, layer_scale=0.25, tau=(0.5, 8.0), unit="FTFU")
    blocks = [block for stage in net.stages for block in stage.blocks]
    assert len(blocks) == sum(SMALL["depths"])
    for block in blocks:
        assert {*block.mix.norm.weight.tolist(), *block.feed_forward.project.norm.weight.tolist()} == {0.25}
        ladder = torch.cat([phase.unit.tau.flatten() for phase in block.phases])
        assert (ladder[0].item(), ladder[-1].item()) == pytest.approx((0.5, 8.0))


@pytest.mark.parametrize(
    ("flag", "end", "count"),
    [
        ("deep_stem", "stem.conv2.conv", 1),
        ("dense_downsample", "downsample.conv.conv", 3),
        ("conv_ffn", "feed_forward.depthwise.conv", sum(SMALL["depths"])),
    ],
)
def test_parts_that_can_be_left_out(flag, end, count):
    """By the names of their convolutions; those of a downsampling have two others in their place."""

    def convolutions(**changes: bool) -> set[str]:
        return {name for name, m in FVNet(SMALL, **changes).named_modules() if isinstance(m, nn.Conv2d)}

    whole = convolutions()
    lost = {name for name in whole if name.endswith(end)}
    assert len(lost) == count
    assert whole - convolutions(**{flag: False}) == lost
    assert convolutions(**{flag: True}) == whole


def test_arch_with_a_missing_key():
    with pytest.raises(ValueError, match=r"a dict with the keys \['channels', 'depths'\]"):
        FVNet({"channels": (16, 24, 32, 40)})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(in_channels=0), "in_channels must be a whole number of at least 1, but is 0"),
        (dict(with_cp="no"), "with_cp must be True or False, but is 'no'"),
        (dict(norm_eval=1), "norm_eval must be True or False, but is 1"),
        (dict(tau=4), "tau must be two finite numbers above 0, the faster first, but is 4"),
        (dict(unit=5), "a unit is a name or a dict with its name under 'type', but one is 5"),
        (dict(unit=dict(type="FTFU", dt="1")), "dt must be a finite number above 0, but is 1"),
        (dict(unit=dict(type="FTFU", conductance_kernel_size=2)), "a kernel must have an odd side .*, but one has 2"),
        (dict(unit=dict(type="FTFU", conductance_kernel_size=0)), "a kernel must have an odd side .*, but one has 0"),
        (dict(norm_cfg=dict(type="IN")), "norm_cfg must be of a norm with a weight"),
    ],
)
def test_bad_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        FVNet(SMALL, **wrong)


@pytest.mark.parametrize("rate", [-0.1, 1.0, "0.1", True])
def test_bad_drop_path_rate(rate):
    with pytest.raises(ValueError, match="drop_path_rate must be at least 0 and less than 1"):
        FVNet(SMALL, drop_path_rate=rate)


@pytest.mark.parametrize(("levels", "frozen"), [((0, 1, 2, 3), -2), ((0, 1, 2, 3), 5), ((0, 1), 3), ((0, 1), "1")])
def test_bad_frozen_stages(levels, frozen):
    with pytest.raises(ValueError, match=r"^frozen_stages must be from -1 \(nothing\) to "):
        FVNet(SMALL, out_indices=levels, frozen_stages=frozen)


@pytest.mark.parametrize("size", [(31, 64), (64, 31), (1, 1)])
def test_image_too_small(size):
    with pytest.raises(ValueError, match=f"at least 32x32 pixels, but got {size[0]}x{size[1]}"):
        FVNet(SMALL)(image(*size))


@pytest.mark.parametrize("levels", LEVELS)
def test_every_trainable_parameter_gets_a_gradient(levels):
    net = FVNet(SMALL, out_indices=levels, drop_path_rate=0.1)
    # The first block's drop path is 0; the others keep both samples of a large enough batch in some run.
    for module in net.modules():
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    total(net(image())).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_only_what_is_requested_is_built():
    net = FVNet(SMALL, out_indices=(0, 2))
    assert len(net.stages) == 3
    assert [name for name, _ in net.named_children() if name.startswith("norm")] == ["norm0", "norm2"]


def test_drop_path_rises_to_its_rate():
    net = FVNet(SMALL, drop_path_rate=0.3)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in net.stages for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.06, 0.12, 0.18, 0.24, 0.3])
    first = FVNet(SMALL, drop_path_rate=0.3, out_indices=(0, 1))  # the same blocks, whichever stages are read
    assert [getattr(block.drop_path, "drop_prob", 0.0) for stage in first.stages for block in stage.blocks] == rates[:3]


@pytest.mark.parametrize("frozen", range(-1, 5))
def test_frozen_stages(frozen):
    net = FVNet(SMALL, frozen_stages=frozen).train()
    parts = [net.stem, *net.stages]
    for i, part in enumerate(parts):
        is_frozen = i <= frozen
        assert all(p.requires_grad != is_frozen for p in part.parameters())
        assert all(m.training != is_frozen for m in part.modules())
    before = copy.deepcopy(net.state_dict())
    total(net(image())).backward()
    for name, value in net.state_dict().items():
        if name.endswith("running_mean"):
            part = 0 if name.startswith("stem") else int(name.split(".")[1]) + 1 if name.startswith("stages") else 5
            assert torch.equal(value, before[name]) == (part <= frozen), name
    assert all((p.grad is not None) == p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("norm_eval", [False, True])
def test_norm_eval(norm_eval):
    net = FVNet(SMALL, norm_eval=norm_eval).train()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.training != norm_eval for norm in norms)
    assert net.training
    assert net.stages[0].blocks[0].training


def test_modes_return_the_network():
    net = FVNet(SMALL, frozen_stages=1, norm_eval=True)
    assert net.train() is net
    assert net.eval() is net
    assert not any(m.training for m in net.modules())


@pytest.mark.parametrize("frozen", [-1, 1])
def test_checkpointing_changes_nothing(frozen):
    plain = FVNet(SMALL, frozen_stages=frozen).train()
    saving = FVNet(SMALL, frozen_stages=frozen, with_cp=True).train()
    saving.load_state_dict(plain.state_dict())
    for x in (image(), image()):  # the second step finds the norms as the first left them
        for net in (plain, saving):
            total(net(x)).backward()
    for (name, p), q in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, msg=name)
    for (name, p), q in zip(plain.named_buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(q, p, msg=name)


@pytest.mark.parametrize("frozen", [-1, 0])
def test_checkpointing_keeps_fewer_activations(frozen):
    def saved(net: FVNet) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            net(image())
        return sum(sizes)

    first = dict(arch=SMALL, out_indices=(0,), frozen_stages=frozen)
    assert saved(FVNet(**first, with_cp=True)) < 0.7 * saved(FVNet(**first))


@pytest.mark.parametrize("arch", [SMALL, "t", "s"])
def test_fuse_keeps_the_function(arch):
    net = FVNet(arch, out_indices=(1, 3))
    randomise_norms(net)
    fused = net.fuse()
    x = 2 + 3 * image(65, 70)
    with torch.no_grad():
        for y, z in zip(net.eval()(x), fused(x), strict=True):
            assert (y - z).abs().max() <= 1e-4
    assert {name for name, m in fused.named_modules() if isinstance(m, nn.BatchNorm2d)} == {"norm1", "norm3"}
    assert not fused.training
    assert not any(p.requires_grad for p in fused.parameters())


def test_fuse_leaves_the_original_training():
    net = FVNet(SMALL).train()
    state = copy.deepcopy(net.state_dict())
    net.fuse()
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(m.training for m in net.modules())
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("library", ["mmengine", "mmdet", "mmseg", "mmpretrain"])
def test_every_library_finds_it(library):
    registry = MODELS if library == "mmengine" else pytest.importorskip(f"{library}.registry").MODELS
    net = registry.build({"type": "FVNet", "arch": SMALL, "out_indices": (1, 2)})
    assert type(net) is FVNet
    assert net.channels == (24, 32)


def test_state_dict_round_trip(tmp_path):
    source, target = FVNet(SMALL).eval(), FVNet(SMALL).eval()
    randomise_norms(source)
    source.eval()
    torch.save(source.state_dict(), tmp_path / "trunk.pth")
    target.load_state_dict(torch.load(tmp_path / "trunk.pth", weights_only=True))
    x = image()
    for y, z in zip(source(x), target(x), strict=True):
        assert torch.equal(y, z)


def test_init_cfg_loads_a_checkpoint_by_prefix(tmp_path):
    source = FVNet(SMALL)
    path = tmp_path / "classifier.pth"
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in source.state_dict().items()}}, path)
    target = FVNet(SMALL, init_cfg={"type": "Pretrained", "checkpoint": str(path), "prefix": "backbone"})
    target.init_weights()
    for name, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name


def test_inference_is_deterministic_and_independent_of_the_batch():
    net = FVNet(SMALL, drop_path_rate=0.5).eval()
    x = image(48, 80, batch=3)
    with torch.no_grad():
        for y, z, one in zip(net(x), net(x), net(x[1:2]), strict=True):
            assert torch.equal(y, z)
            torch.testing.assert_close(y[1:2], one, rtol=1e-4, atol=1e-5)


def test_autocast_is_close():
    net = FVNet(SMALL).train()
    x = image(64, 96, batch=4)
    with torch.no_grad():
        for _ in range(20):
            net(x)
        exact = net.eval()(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = net(x)
    for y, z in zip(exact, rough, strict=True):
        assert (y - z).norm() < 0.05 * y.norm()


def test_flat_decay_mult_spares_what_should_not_decay():
    """With ``paramwise_cfg=dict(flat_decay_mult=0)`` exactly the weights of convolutions decay."""
    net = FVNet(SMALL)
    wrapper = build_optim_wrapper(
        net,
        {
            "type": "OptimWrapper",
            "optimizer": {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.05},
            "paramwise_cfg": {"flat_decay_mult": 0.0},
        },
    )
    decaying = {id(p) for g in wrapper.optimizer.param_groups for p in g["params"] if g["weight_decay"] > 0}
    convolutions = {id(m.weight) for m in net.modules() if isinstance(m, nn.Conv2d)}
    assert decaying == convolutions
    assert any(name.endswith("log_tau") for name, p in net.named_parameters() if id(p) not in decaying)


def test_layer_depth_grows_with_the_forward_pass():
    net = FVNet(SMALL)
    depths = {name: net.get_layer_depth(f"backbone.{name}", "backbone.") for name, _ in net.named_parameters()}
    last = sum(SMALL["depths"]) + 1
    assert {number for _, number in depths.values()} == {last + 1}
    assert depths["stem.conv1.conv.weight"][0] == 0
    assert depths["stages.0.blocks.0.mix.conv.weight"][0] == 1
    assert depths["stages.1.downsample.conv.conv.weight"][0] == 2
    assert depths["stages.1.blocks.1.phases.1.unit.log_tau"][0] == 3
    assert depths["stages.3.blocks.0.feed_forward.expand.conv.weight"][0] == last - 1
    assert depths["norm3.weight"][0] == last
    assert net.get_layer_depth("head.fc.weight", "backbone.") == (last, last + 1)
    in_order = [depth for name, (depth, _) in depths.items() if name.startswith(("stem", "stages"))]
    assert in_order == sorted(in_order)


def test_counts_without_computing():
    """Counting runs on the meta device, so nothing in the forward pass may look at values."""
    with torch.device("meta"):
        net = FVNet("l")
        assert [y.shape[1] for y in net(torch.zeros(1, 3, 2048, 2048))] == list(FVNet.stage_channels("l"))


@pytest.mark.parametrize("arch", BUDGETS)
def test_compiles_without_a_graph_break(arch):
    torch.compiler.reset()  # or other variants count as recompilations of one
    with torch.device("meta"):
        net = FVNet(arch)
    torch.compile(net, fullgraph=True, backend="eager")(torch.zeros(2, 3, 64, 64, device="meta"))


def test_compiled_training_step_is_the_eager_one():
    gradients = []
    net, x = FVNet(SMALL), image()
    for step in (net, torch.compile(net, fullgraph=True, backend="aot_eager")):
        net.zero_grad()
        total(step(x)).backward()
        gradients.append([p.grad.clone() for p in net.parameters()])
    for eager, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-3, atol=1e-4 * eager.abs().max().item())


def test_compiled_inference_is_the_eager_one():
    net = FVNet(SMALL).eval()
    x = image(65, 48)
    with torch.no_grad():
        compiled = torch.compile(net, fullgraph=True, backend="eager")(x)
        for y, z in zip(net(x), compiled, strict=True):
            torch.testing.assert_close(y, z)


def test_blocks_of_a_stage_share_a_program():
    torch.compiler.reset()
    net = FVNet(dict(channels=(8, 16, 16, 24), depths=(3, 2, 4, 1)))
    names = list(net.state_dict())
    x = image()
    net.zero_grad()
    total(net(x)).backward()
    expected = [p.grad.clone() for p in net.parameters()]
    programs = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> Callable[..., tuple]:
        programs.append(graph)
        return graph.forward

    net.compile(backend=backend)
    net.zero_grad()
    total(net(x)).backward()
    assert len(programs) == 4
    assert list(net.state_dict()) == names
    for p, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item())


def test_a_compiled_network_can_be_copied():
    """As averages of weights do; the copy computes with its own."""
    torch.compiler.reset()
    net = FVNet(SMALL).eval()
    net.compile(backend="eager")
    twin = copy.deepcopy(net)
    nn.init.zeros_(twin.stages[0].blocks[0].mix.norm.weight)
    x = image()
    plain = FVNet(SMALL).eval()
    plain.load_state_dict(twin.state_dict())
    with torch.no_grad():
        for y, z in zip(twin(x), plain(x), strict=True):
            torch.testing.assert_close(y, z)


def bytes_for_backward(net: nn.Module, size: int) -> int:
    """Bytes of the storages that a training pass keeps for its backward pass, weights and statistics aside."""
    own = {t.untyped_storage()._cdata for t in (*net.parameters(), *net.buffers())}
    storages = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            storages[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = net.train()(torch.zeros(2, 3, size, size, device="meta"))
    del outputs
    return sum(storage.nbytes() for storage in storages.values())


def test_training_memory_is_no_more_than_that_of_repvit():
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        rival = timm.create_model("repvit_m1_1", features_only=True)
        net = FVNet("s")
    assert bytes_for_backward(net, 320) <= bytes_for_backward(rival, 320)


def test_example_of_the_docstring():
    results = doctest.testmod(fvnet)
    assert results.attempted > 0
    assert results.failed == 0
