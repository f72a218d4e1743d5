import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fvnet_mm import list as listing
from fvnet_mm.backbones import FVNet
from fvnet_mm.bench.complexity import count_parameters
from fvnet_mm.cli import run_tool

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Runs ``python -m fvnet_mm.list`` in this process; returns the exit status, what it prints, and its complaint."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["list", *map(str, words)])
        status = 0
        try:
            run_tool(listing.main, listing.list_parser())
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return call


def cells(markdown: str) -> list[dict[str, str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def test_parameters_macs_and_protocol(listed):
    status, out, _ = listed("--filter", "fvnet_t", "--markdown")
    assert status == 0
    rows = {row["Config"]: row for row in cells(out)}
    assert set(rows) == {path.stem for path in CONFIGS.glob("*fvnet_t*.py")}
    # by framework: detectors, segmentors, classifiers
    shapes = [row["At"] for row in cells(out)]
    assert shapes == sorted(shapes, key=["1280x800", "512x512", "224x224"].index)
    retinanet = rows["retinanet_fvnet_t_coco"]
    trunk = count_parameters(FVNet("t", out_indices=(1, 2, 3)))
    assert retinanet["Trunk (M)"] == f"{trunk / 1e6:.2f}"
    assert float(retinanet["Whole (M)"]) > float(retinanet["Trunk (M)"])
    # docs/protocol.md
    assert [retinanet[c] for c in ("Optimizer", "Learning rate", "Weight decay", "Batch", "Schedule")] == [
        *("AdamW", "0.0001", "0.0001", "16", "12 epochs")
    ]
    assert retinanet["Initial weights"] == "none"
    tripled = rows["retinanet_fvnet_t_coco_3x"]
    assert tripled["Schedule"] == "36 epochs"
    assert tripled["MACs (G)"] == retinanet["MACs (G)"]
    semantic = rows["semantic_fpn_fvnet_t_ade20k"]
    assert [semantic[c] for c in ("Learning rate", "Batch", "Schedule")] == ["0.0002", "32", "40k steps"]


def test_plain_table_has_whole_lines(listed):
    status, out, _ = listed("--filter", "retinanet_mobilenet")
    header, *rows = (line for line in out.splitlines() if line.strip())
    assert status == 0
    assert all(column in header for column in listing.COLUMNS)
    assert [row.split()[0] for row in rows] == ["retinanet_mobilenet_v2_coco", "retinanet_mobilenet_v3_large_coco"]
    assert re.search(r"plain, \d+ epochs", rows[0])


def test_backbones(listed):
    status, out, _ = listed("--backbones", "--markdown")
    assert status == 0
    rows = {row["Backbone"]: row for row in cells(out)}
    assert list(rows) == sorted(path.stem for path in (CONFIGS / "_base_" / "backbones").glob("*.py"))
    assert rows["fvnet_s"]["Channels"] == ", ".join(map(str, FVNet.stage_channels("s")))
    assert rows["fvnet_s"]["Initial weights"] == "none"
    assert rows["repvit_m1_1"]["Type"] == "TimmBackbone, repvit_m1_1"
    assert rows["repvit_m1_1"]["Initial weights"].startswith("distilled")


def test_mistakes_end_in_one_sentence(listed, tmp_path):
    status, _, error = listed("--filter", "vgg")
    assert (status, len(error.splitlines())) == (2, 1)
    assert "has no file with 'vgg' in the name; see --filter and --configs DIR." in error
    status, _, error = listed("--configs", tmp_path / "nowhere")
    assert (status, len(error.splitlines())) == (2, 1)
    assert "nowhere has no file with the suffix .py" in error
    (tmp_path / "part.py").write_text("levels = (0, 1)\n")
    status, _, error = listed("--configs", tmp_path)
    assert (status, len(error.splitlines())) == (2, 1)
    assert "part.py has no model" in error
    text = "model = dict(type='RetinaNet')\n"
    for line, missing in [
        ("", "optim_wrapper.optimizer"),
        ("optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))\n", "train_cfg"),
        ("train_cfg = dict(max_epochs=1)\n", "train_dataloader"),
    ]:
        text += line
        (tmp_path / "part.py").write_text(text)
        status, _, error = listed("--configs", tmp_path)
        assert (status, len(error.splitlines())) == (2, 1)
        assert f"part.py has no {missing}; --configs DIR takes" in error


@pytest.mark.parametrize(
    ("optimizer", "length", "loader", "missing"),
    [
        ("dict(lr=0.1)", "dict(max_epochs=1)", "dict(batch_size=2)", "optim_wrapper.optimizer.type"),
        ("dict(type='Adadelta')", "dict(max_epochs=1)", "dict(batch_size=2)", "optim_wrapper.optimizer.lr"),
        ("dict(type='SGD', lr=0)", "dict(val_interval=1)", "dict(batch_size=2)", "train_cfg.max_epochs or max_iters"),
        ("dict(type='SGD', lr=0)", "dict(max_iters=1)", "dict(num_workers=2)", "train_dataloader.batch_size"),
    ],
)
def test_what_a_training_needs_is_asked_for(listed, tmp_path, optimizer, length, loader, missing):
    settings = f"optim_wrapper = dict(optimizer={optimizer})\ntrain_cfg = {length}\ntrain_dataloader = {loader}\n"
    (tmp_path / "part.py").write_text(f"model = dict(type='RetinaNet')\n{settings}")
    status, _, error = listed("--configs", tmp_path)
    assert (status, len(error.splitlines())) == (2, 1)
    assert f"part.py has no {missing}; --configs DIR takes" in error


def test_as_a_module_from_anywhere(tmp_path):
    command = [sys.executable, "-m", "fvnet_mm.list", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: python -m fvnet_mm.list")
