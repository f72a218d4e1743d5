import json
import os
import pickle
import re
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint
from safetensors.torch import save_file
from torch import nn

import fvnet_mm.engine.download
from fvnet_mm.engine.checkpoint import (
    AtomicBackend,
    check_coverage,
    damage,
    newest_checkpoint,
    read_checkpoint,
)
from fvnet_mm.errors import UserError
from fvnet_mm.records import Backbone, Config, Protocol, RunRecord
from fvnet_mm.records.reading import write_record


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "epoch_1.pth"
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({"state_dict": {"w": torch.arange(1000.0)}, "message_hub": {"loss": history}}, path)
    return path.read_bytes()


def test_reads_what_mmengine_writes(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "epoch_1.pth"
    path.write_bytes(whole)
    checkpoint = read_checkpoint(path)
    assert torch.equal(checkpoint["state_dict"]["w"], torch.arange(1000.0))
    assert checkpoint["message_hub"]["loss"].mean() == 1.5


@pytest.mark.parametrize("value", [np.float64(1.5), np.int64(3), np.ones(2, np.float32), np.zeros(1, bool)])
def test_numpy_values_are_read(value: np.generic, tmp_path: Path) -> None:
    torch.save({"value": value}, tmp_path / "a.pth")
    assert np.array_equal(read_checkpoint(tmp_path / "a.pth")["value"], value)


@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
def test_what_another_numpy_has_written_is_read(package: bytes, tmp_path: Path) -> None:
    torch.save({"loss": HistoryBuffer([1.0, 2.0], [1, 1]), "value": np.float64(1.5)}, tmp_path / "mine.pth")
    with zipfile.ZipFile(tmp_path / "mine.pth") as mine, zipfile.ZipFile(tmp_path / "a.pth", "w") as other:
        for name in mine.namelist():
            other.writestr(name, re.sub(rb"cnumpy\._?core\.", b"c" + package + b".", mine.read(name)))
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    assert checkpoint["loss"].mean() == checkpoint["value"] == 1.5


@pytest.mark.parametrize("protocol", ["zip", "legacy", "pickle"])
def test_code_in_a_checkpoint_is_refused_and_not_run(
    protocol: str, bomb: Callable[[str], object], tmp_path: Path
) -> None:
    path, proof = tmp_path / "a.pth", tmp_path / "ran"
    content = {"state_dict": bomb(f"touch {proof}")}
    if protocol == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=protocol == "zip")
    with pytest.raises(UserError, match=r"a\.pth holds Python code \(\S*system"):
        read_checkpoint(path)
    with pytest.raises(UserError):  # and through mmengine's own door
        CheckpointLoader.load_checkpoint(str(path), map_location="cpu", logger=None)
    assert not proof.exists()


def test_files_of_the_legacy_format_are_read(tmp_path: Path) -> None:
    """mmdet's own publish_model.py writes them."""
    torch.save({"state_dict": {"w": torch.ones(2)}}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(tmp_path / "a.pth")["state_dict"]["w"], torch.ones(2))
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("damaged", [b"\x8aold", b"old\x93", b"qolds"])
def test_damage_inside_a_bare_pickle_is_named(damaged: bytes, tmp_path: Path) -> None:
    """It has no checksum, and what its reader raises is of no one kind."""
    torch.save({"old": torch.ones(2)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes().replace(b"old", damaged, 1))
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(tmp_path / "a.pth")


def test_programs_are_named_without_advice_to_run_them(tmp_path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "a.pth")
    with pytest.raises(UserError, match="TorchScript") as caught:
        read_checkpoint(tmp_path / "a.pth")
    assert "to `False`" not in str(caught.value)


@pytest.mark.parametrize("content", [b"not a checkpoint", b"<html>404</html>", b"\x00" * 64])
def test_other_files_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.pth is damaged or was not written by torch"):
        read_checkpoint(tmp_path / "a.pth")


def test_another_zip_archive_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match=r"a\.pth is damaged or was not written by torch"):
        read_checkpoint(tmp_path / "a.pth")


class Attribute:
    """Unpickles by ``getattr(owner, name)``, the first step of most escapes."""

    def __init__(self, owner: type, name: str) -> None:
        self.owner, self.name = owner, name

    def __reduce__(self) -> tuple[object, tuple[type, str]]:
        return getattr, (self.owner, self.name)


@pytest.mark.parametrize(("owner", "name"), [(HistoryBuffer, "__init__"), (np.ndarray, "tofile")])
def test_getattr_reaches_nothing_but_statistics(owner: type, name: str, tmp_path: Path) -> None:
    torch.save({"x": Attribute(owner, name)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="getattr"):
        read_checkpoint(tmp_path / "a.pth")


def test_config_text_that_mmengine_would_execute_is_dropped(tmp_path: Path) -> None:
    torch.save({"meta": {"config": "import os", "epoch": 1}, "state_dict": {}}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth")["meta"] == {"epoch": 1}


def test_arguments_of_a_training_script_are_read(tmp_path: Path) -> None:
    """timm's and DeiT's scripts save them beside the weights."""
    torch.save({"model": {"w": torch.ones(2)}, "args": Namespace(lr=0.1)}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth")["args"] == Namespace(lr=0.1)


def test_safetensors_are_read(tmp_path: Path) -> None:
    path, weights = tmp_path / "a.safetensors", {"weight": torch.ones(2, 3), "bias": torch.zeros(2, dtype=torch.half)}
    save_file(weights, path, {"origin": "here"})
    checkpoint = read_checkpoint(path)
    assert checkpoint["metadata"] == {"origin": "here"}
    for name, tensor in weights.items():
        assert torch.equal(checkpoint["state_dict"][name], tensor)
        assert checkpoint["state_dict"][name].dtype == tensor.dtype
    model = nn.Linear(3, 2)
    load_checkpoint(model, str(path), strict=True)  # through mmengine's own door
    assert torch.equal(model.weight, weights["weight"])


def test_a_header_whose_length_reads_like_a_zip_archive(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    length = int.from_bytes(b"PK", "little")
    path = tmp_path / "a.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + header.ljust(length) + b"\x07")
    assert read_checkpoint(path)["state_dict"]["w"].item() == 7


@pytest.mark.parametrize("length", [0, 3, 8, 60, -1])
def test_damaged_safetensors_are_named(length: int, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"weight": torch.ones(20, 3)}, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"a\.safetensors is (cut short|damaged)"):
        read_checkpoint(path)
    path.write_bytes(b"<html>404 Not Found</html>")
    with pytest.raises(UserError, match=r"a\.safetensors is damaged or no safetensors file"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("https://host/models/net-0676ba61.pth", "net-0676ba61.pth"),
        ("torchvision://resnet50", "resnet50-0676ba61.pth"),
        ("open-mmlab://detectron2/resnet50_caffe", "resnet50_msra-5891d200.pth"),
        ("mmcls://vgg11", "vgg11_batch256_imagenet_20210208-4271cd6c.pth"),
    ],
)
def test_urls_go_through_the_downloader_and_are_read_without_code(
    source: str, name: str, bomb: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(url: str, sha256: str | None = None) -> Path:
        assert url.startswith("http")
        assert url.endswith(name)
        torch.save({"w": bomb(f"touch {tmp_path / 'ran'}")}, tmp_path / name)
        return tmp_path / name

    monkeypatch.setattr(fvnet_mm.engine.download, "fetch", fetch)
    with pytest.raises(UserError, match="holds Python code"):
        CheckpointLoader.load_checkpoint(source, map_location="cpu", logger=None)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("source", ["s3://a/b.pth", "petrel:s3://a/b.pth", "petrel://a/b.pth", "pavi://a/b.pth"])
def test_storages_of_mmengine_are_not_reached(source: str) -> None:
    with pytest.raises(UserError, match="at a place that cannot be reached"):
        CheckpointLoader.load_checkpoint(source, map_location="cpu", logger=None)


def test_missing_file_and_wrong_content(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_checkpoint(tmp_path / "none.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="holds a list"):
        read_checkpoint(tmp_path / "list.pth")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_truncation_and_bit_flip_is_noticed(
    data: st.DataObject, whole: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "epoch_2.pth"
    length = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:length])
    assert damage(path), f"cut to {length} bytes"
    with pytest.raises(UserError, match=r"epoch_2\.pth"):
        read_checkpoint(path)
    # Only the tensors' bytes: zip archives have paddings and dates, where a flipped bit changes nothing.
    start = whole.index(torch.arange(1000.0).numpy().tobytes())
    at = start + data.draw(st.integers(0, 3999))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[at + 1 :])
    assert "checksum" in (damage(path) or "")


@pytest.mark.parametrize("length", range(6))
def test_the_shortest_files_are_noticed(length: int, whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "epoch_2.pth").write_bytes(whole[:length])
    assert damage(tmp_path / "epoch_2.pth") == "is cut short"


def test_newest_intact_checkpoint(whole: bytes, tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) == (None, [])
    for name, content in (
        ("epoch_2.pth", whole),
        ("epoch_9.pth", whole),
        ("epoch_10.pth", whole[:500]),
        ("epoch_11.pth", b""),
        (".epoch_12.pth.x.tmp", whole),
        ("other.pth", whole),
    ):
        (tmp_path / name).write_bytes(content)
    newest, passed_over = newest_checkpoint(tmp_path)
    assert newest == tmp_path / "epoch_9.pth"
    assert [path.name for path, _ in passed_over] == ["epoch_11.pth", "epoch_10.pth"]


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "epoch_1.pth"
    AtomicBackend().put(b"old", str(path))

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        AtomicBackend().put(b"new", str(path))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_coverage(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Linear(3, 2)
    check_coverage(model, model.state_dict(), "full.pth", complete=True)
    partial = {"weight": torch.zeros(2, 3), "other": torch.zeros(1)}
    assert check_coverage(model, partial, "part.pth", complete=False) == 0.75
    with pytest.raises(UserError, match=r"part\.pth fits only 1 of 2 tensors.*bias"):
        check_coverage(model, partial, "part.pth", complete=True)
    with pytest.raises(UserError, match="0 of 2"):
        check_coverage(model, {"weight": torch.zeros(3, 2)}, "shape.pth", complete=True)
    with pytest.raises(UserError, match="none of the 2"):
        check_coverage(model, {"other": torch.zeros(3)}, "other.pth", complete=False)


@pytest.mark.parametrize("origin", ["train", "test"])
def test_a_checkpoint_of_another_model_is_told_by_its_record(origin: str, tmp_path: Path) -> None:
    record = RunRecord(
        origin=origin,
        status="finished",
        task="detection",
        framework="retinanet",
        config=Config(name="retinanet_mine_coco"),
        backbone=Backbone(name="mine"),
        protocol=Protocol(),
    )
    write_record(record, tmp_path / "run.json")
    with pytest.raises(UserError, match="--backbone, --cfg-options and --data") as error:
        check_coverage(nn.Linear(3, 2), {}, str(tmp_path / "epoch_1.pth"), complete=True)
    named = "run.json names the config retinanet_mine_coco and the trunk mine" in str(error.value)
    assert named == (origin == "train")
