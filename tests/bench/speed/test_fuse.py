"""Fused trunks give what they gave, and nothing is folded that does not fold."""

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from fvnet_mm.backbones import FVNet, TimmBackbone
from fvnet_mm.bench.speed import fuse
from fvnet_mm.bench.speed.fuse import NOT_FUSED, fold_norms, fuse_trunk
from fvnet_mm.errors import UserError

IMAGES = torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(0))


class Paths(nn.Module):
    """Convolutions and norms that belong together, and some that only look as if."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.acting = nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), BatchNormAct2d(4))
        self.read_twice, self.its_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.shared, self.one, self.other = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.before = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1))
        for norm in self.modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.normal_(norm.running_mean)
                nn.init.uniform_(norm.running_var, 0.5, 2)
                nn.init.normal_(norm.weight)
                nn.init.normal_(norm.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.acting(self.plain(x))
        y = self.read_twice(x)
        y = y + self.its_norm(y)
        return (self.before(y + self.one(self.shared(x)) + self.other(self.shared(y))),)


def test_norms_fold_where_nothing_else_reads_the_convolution() -> None:
    torch.manual_seed(0)
    network = Paths().eval()
    with torch.no_grad():
        expected = network(IMAGES)[0]
        assert fold_norms(network, IMAGES) == 2
        torch.testing.assert_close(network(IMAGES)[0], expected)
    assert isinstance(network.plain[1], nn.Identity)
    assert isinstance(network.acting[1], nn.ReLU)
    assert all(isinstance(norm, nn.BatchNorm2d) for norm in (network.its_norm, network.one, network.other))


def small_fvnet() -> FVNet:
    return FVNet(dict(channels=(16, 16, 32, 32), depths=(1, 1, 1, 1)))


@pytest.mark.parametrize(
    ("make", "how"),
    [
        (small_fvnet, "FVNet.fuse"),
        (lambda: TimmBackbone("mobilenetv3_small_050"), "34 norms folded"),
        (lambda: TimmBackbone("repvit_m0_9"), "timm"),
        (lambda: TimmBackbone("test_convnext"), NOT_FUSED),
    ],
)
def test_fused_trunk_computes_the_same(make, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    trunk = make().eval()
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    fused, found = fuse_trunk(trunk)
    assert found == how
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())
    fuse._draw_statistics(trunk)
    with torch.no_grad():
        for ours, theirs in zip(fused(IMAGES), trunk(IMAGES), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4 * theirs.abs().max().item(), rtol=0)


def test_not_a_number_in_one_level_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever it is: every comparison with NaN is false."""

    class Broken(nn.Module):
        def __init__(self, trunk: nn.Module, level: int) -> None:
            super().__init__()
            self.trunk, self.level = trunk, level

        def forward(self, images: Tensor) -> list[Tensor]:
            return [x * float("nan") if number == self.level else x for number, x in enumerate(self.trunk(images))]

    fused = FVNet.fuse
    for level in range(4):
        monkeypatch.setattr(FVNet, "fuse", lambda self, level=level: Broken(fused(self), level))
        with pytest.raises(UserError, match=r"gives other outputs \(by nan%\); measure it without --fuse"):
            fuse_trunk(small_fvnet())


def test_wrong_fold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(network: nn.Module, images: Tensor) -> int:
        nn.init.zeros_(next(network.parameters()))
        return 1

    monkeypatch.setattr(fuse, "fold_norms", forgetful)
    with pytest.raises(UserError, match=r"re-parameterised \(FVNet.fuse, 1 norms folded\) the trunk FVNet gives other"):
        fuse_trunk(small_fvnet())
