"""The first module whose output is not finite: named for a training, and warned of in an evaluation."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import nn

from fvnet_mm.engine.finite_outputs import Outputs, first_in_training

Run = Callable[..., int]
DRILLS = Path(__file__).parents[1] / "drills"

TRUNK = """
from mmengine.registry import MODELS
from torch import nn


class Broken(nn.Module):
    def forward(self, x):
        return x * float('nan')


@MODELS.register_module(force=True)
class NeverFinite(nn.Module):
    def __init__(self, only_in_evaluation=False):
        super().__init__()
        self.stages = nn.ModuleList(nn.Conv2d(3, c, 1, s) for c, s in ((8, 4), (8, 8), (16, 16), (16, 32)))
        self.broken = Broken()
        self.only_in_evaluation = only_in_evaluation

    def forward(self, x):
        bad = not (self.training and self.only_in_evaluation)
        return tuple(self.broken(stage(x)) if bad else stage(x) for stage in self.stages)
"""


class Model(BaseModel):
    """A norm, and a layer that divides by nought."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.part = nn.BatchNorm1d(2), nn.Sequential(nn.Linear(2, 2), nn.LogSigmoid(), nn.Softplus())

    def forward(self, inputs: torch.Tensor, mode: str) -> dict[str, torch.Tensor]:
        return dict(loss=self.part(self.norm(inputs)).sum())


def test_the_innermost_module_is_named_and_norms_keep_their_statistics() -> None:
    model = Model().train()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    assert first_in_training(model, wrapper, [dict(inputs=torch.randn(4, 2))]) == (None, None)
    model.part[0].bias.data[0] = float("inf")
    assert first_in_training(model, wrapper, [dict(inputs=torch.randn(4, 2))]) == ("part.0", None)
    assert model.norm.num_batches_tracked == 0
    assert torch.equal(model.norm.running_mean, torch.zeros(2))
    name, failure = first_in_training(model, wrapper, [dict(inputs=torch.randn(4, 3))])
    assert name is None
    assert failure.startswith("RuntimeError: ")


@pytest.mark.parametrize(("value", "named"), [(float("nan"), True), (float("inf"), True), (float("-inf"), False)])
def test_logits_may_be_masked(value: float, named: bool) -> None:
    part = nn.Identity()
    with Outputs().watched([("part", part)]) as outputs:
        part(torch.tensor([1.0, value]))
    assert outputs.first == ("part" if named else None)


def config(folder: Path, base: str, arguments: str, more: str = "") -> Path:
    (folder / "nan_trunk.py").write_text(TRUNK)
    file = folder / f"{base.removeprefix('tiny_')}_nan.py"
    file.write_text(
        f"_base_ = [{str(DRILLS / f'{base}.py')!r}]\n"
        "custom_imports = dict(imports=['fvnet_mm', 'nan_trunk'], allow_failed_imports=False)\n"
        f"model = dict(backbone=dict(_delete_=True, type='NeverFinite', {arguments}))\n{more}"
    )
    return file


def test_a_training_names_it(
    run: Run, tiny_ade20k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = config(tmp_path, "tiny_semantic_fpn", "")
    assert run("train", file, "--data", tiny_ade20k, "--work-dir", tmp_path / "work") == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert "(the first output that is not finite is that of backbone.broken)" in error
    assert "no matter of the rate: look at backbone.broken and at the images" in error
    (process,) = json.loads((tmp_path / "work" / "nonfinite_iter_1.json").read_text())["processes"]
    assert process["first_output"] == "backbone.broken"
    assert process["not_repeated"] is None


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_an_evaluation_warns_once(
    run: Run, tiny_ade20k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = config(tmp_path, "tiny_semantic_fpn", "only_in_evaluation=True", "train_cfg = dict(max_iters=2)\n")
    words = ["--data", tiny_ade20k, "--work-dir", tmp_path / "work"]
    assert run("train", file, *words) == 0
    said = "in this evaluation the backbone gives numbers that are not finite"
    assert "".join(capfd.readouterr()).count(said) == 1
    assert run("test", file, tmp_path / "work" / "iter_2.pth", *words) == 0
    assert "".join(capfd.readouterr()).count(said) == 1
