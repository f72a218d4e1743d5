"""Trunks and layers that no gradient reaches: refused, named in a warning, or named in the end of several processes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from fvnet_mm.engine.untrained import check_gradients, unreduced_in_words
from fvnet_mm.errors import UserError

Run = Callable[..., int]
ROOT = Path(__file__).parents[2]
SEMANTIC_FPN = ROOT / "tests" / "drills" / "tiny_semantic_fpn.py"

TRUNK = """
import torch
from mmengine.registry import MODELS
from torch import nn


@MODELS.register_module(force=True)
class Neglected(nn.Module):
    def __init__(self, detached=False, frozen=False):
        super().__init__()
        self.stages = nn.ModuleList(nn.Conv2d(3, c, 1, s) for c, s in ((8, 4), (8, 8), (16, 16), (16, 32)))
        self.dead = nn.Linear(3, 3)
        self.detached = detached
        self.requires_grad_(not frozen)

    def forward(self, x):
        return tuple(stage(x).detach() if self.detached else stage(x) for stage in self.stages)
"""


class Model(nn.Module):
    """A trunk that may be detached, a head, and a layer that nothing uses."""

    def __init__(self, detached: bool = False) -> None:
        super().__init__()
        self.backbone, self.head, self.dead = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
        self.detached = detached

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.backbone(x)
        return self.head(x.detach() if self.detached else x).sum()


def test_what_got_no_gradient() -> None:
    model = Model()
    model(torch.ones(1, 2)).backward()
    found = check_gradients(model)
    assert found.startswith(
        "2 of 6 trainable parameters got no gradient in the first backward pass: dead.weight, dead.b"
    )
    model.dead.requires_grad_(False)
    assert check_gradients(model) is None
    detached = Model(detached=True)
    detached(torch.ones(1, 2)).backward()
    with pytest.raises(UserError, match="none of the 2 parameters of the backbone Linear a gradient"):
        check_gradients(detached)
    detached.backbone.bias.requires_grad_(False)  # what is left may be a tail that no map depends on
    assert check_gradients(detached).startswith("3 of 5")
    detached.backbone.requires_grad_(False)  # as it is meant
    assert check_gradients(detached).startswith("2 of 4")


def test_torchs_numbers_are_names() -> None:
    error = RuntimeError(
        "Expected to have finished reduction in the prior iteration before starting a new one.\n"
        "Parameter indices which did not receive grad for rank 1: 2 3\n In addition, you can set ..."
    )
    model = Model()
    model.head.requires_grad_(False)
    sentence = unreduced_in_words(model, error)
    assert "no gradient on rank 1 to dead.weight, dead.bias, for" in sentence
    assert "find_unused_parameters=True" in sentence
    assert unreduced_in_words(model, RuntimeError("another")) is None


def config(folder: Path, arguments: str = "") -> Path:
    (folder / "neglected_trunk.py").write_text(TRUNK)
    file = folder / "semantic_fpn_neglected.py"
    file.write_text(
        f"_base_ = [{str(SEMANTIC_FPN)!r}]\n"
        f"custom_imports = dict(imports=['fvnet_mm', 'neglected_trunk'], allow_failed_imports=False)\n"
        f"model = dict(backbone=dict(_delete_=True, type='Neglected', {arguments}))\n"
        "train_cfg = dict(max_iters=2)\n"
    )
    return file


def test_a_detached_trunk_is_refused_and_a_dead_layer_named(
    run: Run, tiny_ade20k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    words = ["--data", tiny_ade20k, "--work-dir"]
    assert run("train", config(tmp_path, "detached=True"), *words, tmp_path / "a") == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: the first backward pass has given none of the 10 parameters"), error
    assert not list((tmp_path / "a").glob("*.pth"))
    assert run("train", config(tmp_path, "detached=True, frozen=True"), *words, tmp_path / "b") == 0
    assert "got no gradient" not in "".join(capfd.readouterr())
    assert run("train", config(tmp_path), *words, tmp_path / "c") == 0
    printed = "".join(capfd.readouterr())
    assert printed.count("got no gradient in the first backward pass: backbone.dead.weight, backbone.dead.bias;") == 1


def test_a_dead_layer_of_several_processes(tiny_ade20k: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    words += [ROOT / "tools" / "train.py", config(tmp_path), "--data", tiny_ade20k, "--work-dir", tmp_path / "work"]
    words += ["--launcher", "pytorch", "--cfg-options", "train_dataloader.batch_size=2"]
    environment = os.environ | dict(PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}", OMP_NUM_THREADS="1")
    done = subprocess.run(
        list(map(str, words)), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode
    (line, *_) = [line for line in done.stderr.splitlines() if line.startswith("error: a pass over a batch")]
    assert "to backbone.dead.weight, backbone.dead.bias, for which" in line
    assert "find_unused_parameters=True" in line
