import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fvnet_mm.backbones import FTFU, MPFB, Phase
from fvnet_mm.backbones.conv_norm import ConvNorm, fuse_conv_norms
from fvnet_mm.backbones.ftfu import SiLUUnit
from fvnet_mm.backbones.mpfb import FeedForward, FluidPhase, phase_widths

BN, GELU = {"type": "BN"}, {"type": "GELU"}
TAU = (1.0, 16.0)
USUAL = dict(expansion=2.0, tau=TAU, conv_ffn=True, layer_scale=0.5, norm_cfg=BN, act_cfg=GELU)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def block(channels: int = 32, phases: tuple[tuple[int, int], ...] = ((3, 1), (5, 2)), **settings) -> MPFB:
    return MPFB(channels, [Phase(*phase) for phase in phases], **USUAL | settings)


@given(channels=st.integers(1, 700), phases=st.integers(1, 5))
def test_widths_share_all_channels(channels, phases):
    if phases > channels:
        return
    widths = phase_widths(channels, phases)
    assert sum(widths) == channels
    assert len(widths) == phases
    assert min(widths) >= 1
    if channels >= 16 * phases:
        assert all(width % 16 == 0 for width in widths[:-1])


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 21), width=st.integers(1, 21), grid=st.sampled_from([1, 2, 4]))
def test_keeps_any_size(height, width, grid):
    net = block(8, ((3, 1), (3, grid))).eval()
    assert net(torch.randn(1, 8, height, width)).shape == (1, 8, height, width)


def test_phases_run_from_fast_to_slow_on_one_ladder():
    net = block(64, ((3, 1), (3, 1), (3, 2), (3, 2)), tau=(0.5, 32.0), unit="FTFU")
    taus = [phase.unit.tau.flatten() for phase in net.phases]
    ladder = torch.cat(taus)
    assert ladder[0].item() == pytest.approx(0.5)
    assert ladder[-1].item() == pytest.approx(32.0)
    assert (ladder.diff() > -1e-5).all()
    assert [t[0].item() for t in taus] == pytest.approx([0.5, 2**0.5, 4.0, 128**0.5])


@pytest.mark.parametrize(("kernel_size", "grid", "reach"), [(3, 1, 1), (7, 1, 3), (3, 2, 2), (5, 2, 4), (3, 4, 4)])
@pytest.mark.parametrize("unit", [FTFU, SiLUUnit])
def test_reach_of_a_phase(unit, kernel_size, grid, reach):
    """Half a kernel in cells: a pixel sees as many pixels away, and the rest of the last cell."""
    phase = FluidPhase(unit(1, kernel_size, tau=TAU, norm_cfg=BN), grid).eval()
    x = torch.randn(1, 1, 32, 32, requires_grad=True)
    phase(x)[0, 0, 16, 16].backward()
    rows = x.grad[0, 0].abs().sum(1).nonzero().flatten()
    # Pixel 16 is the first of its cell.
    assert rows.min() == 16 - reach
    assert rows.max() == 16 + reach + grid - 1


@pytest.mark.parametrize(("height", "width"), [(7, 9), (8, 12)])
@pytest.mark.parametrize("grid", [2, 4])
def test_coarse_phase_moves_each_pixel_by_what_its_cell_moved(grid, height, width):
    phase = FluidPhase(FTFU(4, 3, tau=TAU, norm_cfg=BN), grid).eval()
    x = torch.randn(2, 4, height, width)
    rows, columns = range(0, height, grid), range(0, width, grid)
    cells = torch.stack([x[:, :, i : i + grid, j : j + grid].mean((2, 3)) for i in rows for j in columns], dim=-1).view(
        2, 4, len(rows), len(columns)
    )
    with torch.no_grad():
        change, expected = phase(x) - x, phase.unit(cells) - cells
    for i in range(height):
        for j in range(width):
            torch.testing.assert_close(change[..., i, j], expected[..., i // grid, j // grid], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("conv_ffn", [False, True])
def test_block_is_two_residual_branches(conv_ffn):
    net = block(tau=(1.0, 4.0), conv_ffn=conv_ffn).eval()
    x = torch.randn(1, 32, 6, 6)
    with torch.no_grad():
        fast, slow = x.split(net.widths, dim=1)
        y = x + net.mix(torch.cat([net.phases[0](fast), net.phases[1](slow)], dim=1))
        hidden = net.feed_forward.expand(y)
        if conv_ffn:
            hidden = hidden + net.feed_forward.depthwise(hidden)
        torch.testing.assert_close(net(x), y + net.feed_forward.project(F.gelu(hidden)))


def test_zero_layer_scale_is_the_identity():
    net = block(layer_scale=0.0)
    x = torch.randn(2, 32, 6, 6)
    torch.testing.assert_close(net(x), x)


def test_stream_is_not_starved_by_depth():
    """A leak on the stream itself would shrink it at every block; on a branch the stream passes."""
    x = torch.randn(2, 32, 8, 8)
    y = x
    for _ in range(30):
        y = block(tau=(0.1, 0.1), layer_scale=0.05)(y)
    similarity = F.cosine_similarity(x.flatten(), y.flatten(), dim=0)
    assert similarity > 0.8
    assert y.norm() > 0.8 * x.norm()


def test_stochastic_depth_drops_whole_branches_in_training_only():
    net = block(drop_path=0.999)
    x = torch.randn(8, 32, 6, 6)
    kept = (net(x) - x).flatten(1).abs().amax(1) == 0
    assert kept.any()
    net.eval()
    assert ((net(x) - x).flatten(1).abs().amax(1) > 0).all()


@pytest.mark.parametrize("phases", [(), ((3, 1),) * 5])
def test_impossible_number_of_phases(phases):
    with pytest.raises(ValueError, match="a block of 4 channels can have 1 to 4 phases"):
        block(4, phases)


@pytest.mark.parametrize(
    ("unit", "phases", "held"),
    [
        (None, 1, ["FTFU"]),
        (None, 3, ["SiLUUnit", "SiLUUnit", "FTFU"]),
        ("GatedUnit", 2, ["GatedUnit", "GatedUnit"]),
        ({"type": "CfCUnit"}, 2, ["CfCUnit", "CfCUnit"]),
        (["FTFU", "SiLUUnit"], 2, ["FTFU", "SiLUUnit"]),
        ([{"type": "FTFU"}, "GatedUnit"], 2, ["FTFU", "GatedUnit"]),
    ],
)
def test_what_the_phases_hold(unit, phases, held):
    net = block(unit=unit, phases=((3, 1),) * phases)
    assert [type(phase.unit).__name__ for phase in net.phases] == held


def test_options_of_a_unit():
    assert block(unit=[{"type": "FTFU", "dt": 0.5}, "FTFU"]).phases[0].unit.dt == 0.5


def test_impossible_units():
    with pytest.raises(ValueError, match="one for all or one for each of 2 phases, not 1"):
        block(unit=["FTFU"])
    with pytest.raises(ValueError, match="a unit is a name or a dict with its name under 'type', but one is 3"):
        block(unit=["FTFU", 3])
    with pytest.raises(ValueError, match=r"its name under 'type', but one is \{'dt': 2.0\}"):
        block(unit={"dt": 2.0})
    with pytest.raises(ValueError, match="unit 'LSTM' does not exist; choose one of FTFU, SiLUUnit, FixedTauFTFU"):
        block(unit="LSTM")


def test_hidden_channels_are_the_nearest_number():
    sizes = [
        FeedForward(3, expansion, conv=True, norm_cfg=BN, act_cfg=GELU, layer_scale=0.5).expand.conv
        for expansion in (2.6, 2.4)
    ]
    assert [conv.out_channels for conv in sizes] == [8, 7]


def test_fused_feed_forward_holds_the_sum_in_its_convolution():
    feed_forward = FeedForward(8, 2.0, conv=True, norm_cfg=BN, act_cfg=GELU, layer_scale=0.5).double().eval()
    feed_forward.depthwise.norm.running_var.uniform_(0.5, 2.0)
    x = torch.randn(2, 8, 7, 5, dtype=torch.float64)
    fused = feed_forward.fuse()
    assert sum(isinstance(module, nn.Conv2d) for module in fused) == 3
    torch.testing.assert_close(fused(x), feed_forward(x))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 4])
def test_fused_convolution_is_the_same_function(groups, stride):
    net = ConvNorm(4, 8, 3, stride=stride, groups=groups, norm_cfg=BN).double().eval()
    with torch.no_grad():
        for tensor in (net.norm.weight, net.norm.bias, net.norm.running_mean):
            tensor.normal_()
        net.norm.running_var.uniform_(0.1, 3)
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(net.fuse()(x), net(x))


def test_norms_that_do_not_fold_stay():
    net = torch.nn.Sequential(ConvNorm(4, 8, 3, norm_cfg={"type": "GN", "num_groups": 2}), ConvNorm(8, 8, norm_cfg=BN))
    x = torch.randn(2, 4, 6, 6)
    net.eval()
    expected = net(x)
    fuse_conv_norms(net)
    assert isinstance(net[0], ConvNorm)
    assert isinstance(net[1], torch.nn.Conv2d)
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)
