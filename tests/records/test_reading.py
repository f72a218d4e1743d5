"""Records that are read, found, and refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fvnet_mm.errors import UserError
from fvnet_mm.records import (
    Backbone,
    ClassResult,
    Config,
    Evaluation,
    Predictions,
    Protocol,
    Result,
    RunRecord,
)
from fvnet_mm.records.reading import find_records, read_record, write_record

RECORD = RunRecord(
    origin="train",
    status="finished",
    task="semantic_segmentation",
    framework="upernet",
    config=Config(name="upernet_fvnet_s_ade20k"),
    backbone=Backbone(name="fvnet_s", type="FVNet", arguments={"arch": "s", "out_indices": [0, 1], "note": "[ 1, 2 ]"}),
    protocol=Protocol(framework="upernet", learning_rate=6e-5, gradient_clip=0.0),
    evaluations=(Evaluation(step=4000, metrics={"mIoU": 12.345678901234567}),),
    result=Result(
        metrics={"mIoU": 12.345678901234567, "mAcc": None},
        per_class=(ClassResult(name="wall [\n 1 ]", metrics={"IoU": None, "Acc": 1e-9}),),
        confusion=((1, 20), (300, 0)),
        predictions=(Predictions(kind="label_maps", path="predictions/val"),),
    ),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_record(RECORD, tmp_path / "run.json")
    return tmp_path / "run.json"


def test_what_is_written_is_read(file: Path) -> None:
    assert read_record(file) == RECORD
    assert "[300, 0]" in file.read_text()
    assert json.loads(file.read_text()) == RECORD.model_dump(mode="json")


def test_the_key_of_older_files_is_read_and_no_longer_written(file: Path) -> None:
    content = json.loads(file.read_text())
    assert "speed" not in content
    file.write_text(json.dumps(content | {"speed": None}))
    assert read_record(file) == RECORD


def altered(change: Callable[[dict], None]) -> Callable[[str], str]:
    def alter(text: str) -> str:
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    return alter


@pytest.mark.parametrize(
    ("alter", "sentence"),
    [
        (lambda text: text[: len(text) // 2], "cut short"),
        (lambda text: "", "cut short"),
        (lambda text: "AP 31.2", "is not JSON"),
        (lambda text: "[1, 2]", "no schema_version"),
        (altered(lambda record: record.update(schema_version=2)), "schema version 2, written by a newer fvnet_mm"),
        (altered(lambda record: record.update(schema_version="1")), "no whole number"),
        (altered(lambda record: record.update(schema_version=True)), "no whole number"),
        (altered(lambda record: record.update(schema_version=-1)), r"schema_version: Input should be 1 \(it is -1\)"),
        (altered(lambda record: record.update(schema_version=0)), r"schema_version: Input should be 1 \(it is 0\)"),
        (
            altered(lambda record: record["result"]["metrics"].update(mIoU=float("nan"))),
            r"result\.metrics\.mIoU: .*nan",
        ),
        (
            altered(lambda record: record["result"]["metrics"].update(mIoU=float("inf"))),
            r"result\.metrics\.mIoU: .*inf",
        ),
        (altered(lambda record: record.update(score=1)), "score is a field that the schema does not know"),
        (
            altered(lambda record: record.update(score=1, rank=2)),
            r"score is .* not know; rank is .* not know\.$",
        ),
        (altered(lambda record: record.update(a=1, b=2, c=3, d=4)), r"; c is .* not know, and 1 more fault\.$"),
        (altered(lambda record: record.update(dict.fromkeys("abcde"))), r"; c is .* not know, and 2 more faults\.$"),
        (altered(lambda record: record["protocol"].update(patience=1)), "patience is a field that the schema does not"),
        (altered(lambda record: record.pop("task")), "task is missing"),
        (altered(lambda record: record.update(task="pose")), "task: .*'pose'"),
        (altered(lambda record: record["protocol"].update(learning_rate=1.0)), "fingerprint '.*' is not that of"),
        (altered(lambda record: record["protocol"].update(fingerprint="0" * 12)), "fingerprint '000000000000'"),
    ],
)
def test_what_is_refused(file: Path, alter: Callable[[str], str], sentence: str) -> None:
    file.write_text(alter(file.read_text()))
    with pytest.raises(UserError, match=sentence) as caught:
        read_record(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_record(tmp_path / "run.json")


def test_records_are_found(tmp_path: Path) -> None:
    """Not in the folders of a run or a test that hold other files; what is only called like one is searched."""
    names = ["b/run.json", "a/run.json", "a/test.json", "a/nested/run.json", "c/test.json", "predictions/d/run.json"]
    others = ["a/predictions/val/run.json", "c/vis_data/run.json", "a/running.json", "e/nothing.txt"]
    for name in [*names, *others]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_records(tmp_path) == sorted(tmp_path / name for name in names)


def test_a_folder_that_cannot_be_read_is_never_passed_over_in_silence(
    tmp_path: Path, lock: Callable[[Path], None]
) -> None:
    (tmp_path / "run.json").touch()
    (tmp_path / "locked").mkdir()
    lock(tmp_path / "locked")
    with pytest.raises(UserError, match=r"the folder .*/locked cannot be read: Permission denied"):
        find_records(tmp_path)
    told: list[OSError] = []
    assert find_records(tmp_path, unreadable=told.append) == [tmp_path / "run.json"]
    assert [error.filename for error in told] == [str(tmp_path / "locked")]


def test_every_field_of_a_protocol_is_in_its_fingerprint() -> None:
    nothing = Protocol()
    changed = {name: Protocol(**{name: "1"}) for name in Protocol.model_fields}
    assert len({protocol.fingerprint for protocol in (nothing, *changed.values())}) == len(changed) + 1
    for name, protocol in changed.items():
        assert nothing.differences(protocol) == {name: (None, getattr(protocol, name))}


def test_fingerprints_of_records_written_before_stay() -> None:
    """Of the fields as JSON in their order, null where unknown; records that have another would be refused."""
    known = dict(framework="retinanet", learning_rate=0.5, norm_eval=True)
    text = json.dumps(dict.fromkeys(Protocol.model_fields) | known, separators=(",", ":"))
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert Protocol(**known).fingerprint == fingerprint == "df63062e611c"


def test_records_behind_links_are_found_once(tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk/run_1"
    elsewhere.mkdir(parents=True)
    (elsewhere / "run.json").touch()
    work_dirs = tmp_path / "work_dirs"
    work_dirs.mkdir()
    (work_dirs / "linked").symlink_to(elsewhere)
    (work_dirs / "linked_twice").symlink_to(elsewhere)
    (work_dirs / "above").symlink_to(work_dirs)
    (found,) = find_records(work_dirs)
    assert found.resolve() == elsewhere / "run.json"
