import io
import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fvnet_mm.bench.crop_probe import CROP_SIZE, GREY, Crops, Probe, build_probe, cut_out
from fvnet_mm.bench.probe_names import MODELS
from fvnet_mm.data.benchmark.dataset import write_shapes
from fvnet_mm.data.benchmark.scene import draw_scene
from fvnet_mm.data.coco_layout import find_coco
from fvnet_mm.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("probe") / "shapes"
    write_shapes(root, {"train": 2, "val": 1, "test": 1}, workers=1)
    return root


@pytest.fixture(scope="module")
def crops(root: Path) -> Crops:
    return cut_out(find_coco(root).train)


def test_the_tool_writes_a_record_and_refuses_in_sentences(
    root: Path, tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "linear.json"
    words = [root, "--model", "linear", "--out", out]
    assert run("probe_shapes", *words, "--epochs", 2, "--stop-after", 0) == 0
    assert not out.exists()
    assert run("probe_shapes", *words, "--epochs", 2, "--object-only") == 2
    assert "a probe with other settings (data)" in capsys.readouterr().err
    assert run("probe_shapes", *words, "--epochs", 2) == 0
    record = json.loads(out.read_text(), parse_constant=pytest.fail)  # NaN is no JSON
    assert (record["crops"], record["epochs"], len(record["accuracy_by_size"])) == ("window", 2, 3)
    assert list(tmp_path.iterdir()) == [out]
    assert run("probe_shapes", *words, "--epochs", 0) == 2
    for time in ("nan", "-1"):
        assert run("probe_shapes", *words, "--stop-after", time) == 2
        assert f"takes a number of seconds such as 0.25, not '{time}'" in capsys.readouterr().err
    broken = shutil.copytree(root, tmp_path / "broken")
    (broken / "images" / "training" / "train_000001.jpg").write_bytes(b"")
    assert run("probe_shapes", broken, "--model", "linear", "--out", tmp_path / "other.json") == 2
    assert "train_000001.jpg is missing or cannot be decoded" in capsys.readouterr().err


def test_crops_show_the_objects(crops: Crops):
    instances = [item for index in range(2) for item in draw_scene(0, "train", index).instances]
    assert crops.labels.tolist() == [item.thing for item in instances]
    assert crops.areas.tolist() == [item.mask.sum() for item in instances]
    for inside, item in zip(crops.inside.numpy(), instances, strict=True):
        rows, columns = np.nonzero(item.mask)
        window = 2.5 * max(np.ptp(rows) + 1, np.ptp(columns) + 1)
        assert inside.mean() == pytest.approx(item.mask.sum() / window**2, rel=0.15)
        centre = np.argwhere(inside)
        assert (centre.min(0) + centre.max(0)) / 2 == pytest.approx([(CROP_SIZE - 1) / 2] * 2, abs=2)


def test_without_surroundings_only_the_object_is_left(crops: Crops):
    alone = crops.without_surroundings()
    inside = crops.inside[:, None].expand_as(alone.images)
    assert (alone.images[~inside] == GREY).all()
    assert torch.equal(alone.images[inside], crops.images[inside])
    assert not torch.equal(alone.images, crops.images)


@pytest.mark.parametrize("name", MODELS)
def test_probes_give_a_score_for_each_class(name: str):
    assert build_probe(name, 12)(torch.rand(2, 3, CROP_SIZE, CROP_SIZE) * 2 - 1).shape == (2, 12)


def test_the_tool_knows_these_probes_and_no_others(
    tmp_path: Path,
    run: Callable[..., int],
    heavy_imports: Callable[[str], set[str]],
    capsys: pytest.CaptureFixture[str],
):
    assert run("probe_shapes", tmp_path, "--model", "large", "--out", tmp_path / "x.json") == 2
    assert set(MODELS) <= set(re.findall(r"\w+", capsys.readouterr().err.partition("choose from")[2]))
    with pytest.raises(ValueError, match=f"there is no probe 'large'; there are {', '.join(MODELS)}"):
        build_probe("large", 12)
    assert heavy_imports("probe_shapes") == set()


def coloured(count: int) -> Crops:
    """Two classes that a colour tells apart."""
    labels = torch.arange(count) % 2
    images = torch.full((count, 3, CROP_SIZE, CROP_SIZE), 60, dtype=torch.uint8)
    images[labels == 1, 0] = 200
    return Crops(images, torch.ones(count, CROP_SIZE, CROP_SIZE, dtype=torch.bool), labels, torch.ones(count))


def test_a_probe_learns_and_goes_on_where_it_was(tmp_path: Path):
    data = coloured(128)
    whole = Probe("linear", 2, 6, 0, tmp_path / "whole.pth")
    for _ in range(6):
        whole.train_epoch(data)
    assert torch.equal(whole.predict(data), data.labels)
    halves = Probe("linear", 2, 6, 0, tmp_path / "halves.pth")
    for _ in range(3):
        halves.train_epoch(data)
    for others in (dict(name="tiny"), dict(epochs=5), dict(seed=1), dict(data="objects of abc")):
        arguments = dict(name="linear", classes=2, epochs=6, seed=0, state=tmp_path / "halves.pth") | others
        with pytest.raises(
            UserError, match=r"halves.pth is what a probe with other settings \((model|epochs|seed|data)\)"
        ):
            Probe(**arguments)
    halves = Probe("linear", 2, 6, 0, tmp_path / "halves.pth")
    assert halves.epoch == 3
    for _ in range(3):
        halves.train_epoch(data)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, halves.model.state_dict()[name]), name


def saved(content: object) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "damaged",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"",
        lambda whole: b"not a probe",
        lambda whole: pickle.dumps(Path(), protocol=2),
        lambda whole: saved(dict(model={})),
    ],
)
def test_a_damaged_state_is_refused_in_a_sentence(tmp_path: Path, damaged: Callable[[bytes], bytes]):
    file = tmp_path / "tiny.json.state"
    Probe("linear", 2, 6, 0, file).train_epoch(coloured(8))
    file.write_bytes(damaged(file.read_bytes()))
    with pytest.raises(UserError, match=r"tiny\.json\.state cannot be read as .*; remove it to begin anew\.$"):
        Probe("linear", 2, 6, 0, file)


def older(file: Path, change: Callable[[dict], object]) -> None:
    """Makes of a state what an earlier version would have saved."""
    state = torch.load(file, weights_only=True)
    change(state)
    torch.save(state, file)


def test_a_state_of_an_earlier_version_is_refused_in_a_sentence(tmp_path: Path):
    file = tmp_path / "linear.json.state"
    Probe("linear", 2, 6, 0, file).train_epoch(coloured(8))
    whole = file.read_bytes()
    older(file, lambda state: state["settings"].pop("data"))
    with pytest.raises(UserError, match=r"a probe with other settings \(data\)"):
        Probe("linear", 2, 6, 0, file)
    for change in (
        lambda state: state["model"].pop("classify.bias"),
        lambda state: state["optimizer"]["param_groups"][0]["params"].pop(),
    ):
        file.write_bytes(whole)
        older(file, change)
        with pytest.raises(UserError, match=r"linear\.json\.state cannot be read as .*; remove it to begin anew\.$"):
            Probe("linear", 2, 6, 0, file)
