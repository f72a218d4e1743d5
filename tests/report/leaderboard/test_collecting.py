import json
import os
import shutil
from pathlib import Path

import pytest

from fvnet_mm.errors import UserError
from fvnet_mm.files import sha256_of
from fvnet_mm.records import Data, Predictions, Result, Split
from fvnet_mm.report.leaderboard.collecting import collect


def spoil_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_version(path: Path) -> None:
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))


def spoil_number(path: Path) -> None:
    path.write_text(path.read_text().replace('"AP": 31.0', '"AP": NaN', 1))


@pytest.mark.parametrize(
    ("spoil", "reason"), [(spoil_half, "cut short"), (spoil_version, "newer"), (spoil_number, "finite")]
)
def test_bad_records_are_named_and_the_rest_tabulated(write_run, tmp_path, spoil, reason):
    write_run("good", seed=0, AP=33.0)
    bad = write_run("bad", seed=1, AP=31.0)
    spoil(bad)
    collection = collect([tmp_path])
    (problem,) = collection.problems
    assert [run.name for run in collection.runs] == ["work_dirs/good/run.json"]
    assert problem.startswith("work_dirs/bad/run.json: ")
    assert reason in problem
    assert "\n" not in problem
    assert str(tmp_path) not in problem


def test_copied_work_dir_counts_once(write_run, tmp_path):
    path = write_run("run", AP=31.0)
    shutil.copytree(path.parent, path.parents[1] / "copy")
    collection = collect([tmp_path])
    assert collection.problems == ()
    assert [run.name for run in collection.runs] == ["work_dirs/copy/run.json"]


def test_runs_of_several_folders_are_told_apart_by_as_much_as_it_takes(write_run, tmp_path):
    for seed, place in enumerate(("one/runs", "two/runs", "three")):
        write_run(f"../{place}/run", seed=seed)

    def names(*folders: str) -> list[str]:
        return [run.name for run in collect([tmp_path / folder for folder in folders]).runs]

    assert names("three") == ["run/run.json"]
    assert names("one", "three") == ["one/runs/run/run.json", "three/run/run.json"]
    assert names("one/runs", "two/runs") == ["one/runs/run/run.json", "two/runs/run/run.json"]
    assert names("one", "one/runs") == ["runs/run/run.json"]


@pytest.mark.parametrize(
    "changes",
    [
        dict(protocol=dict(test_mode="(max_per_img=300)")),
        dict(protocol=dict(test_pipeline="Resize(scale=(640, 640))")),
        dict(protocol=dict(model="RetinaNet(data_preprocessor=DetDataPreprocessor(mean=none, std=none))")),
        dict(data=Data(label="others", classes=("circle",), val=Split(images=10, fingerprint="0000example3"))),
    ],
)
def test_another_test_of_a_checkpoint_is_a_run_of_its_own(write_run, tmp_path, changes):
    write_run("run", AP=31.0, checkpoint_sha256="c" * 64)
    write_run("run", file="test.json", AP=35.0, checkpoint_sha256="c" * 64, origin="test", **changes)
    collection = collect([tmp_path])
    assert collection.problems == ()
    assert [run.record.result.metrics["AP"] for run in collection.runs] == [31.0, 35.0]


def test_a_students_test_away_from_its_training_is_the_trainings_run(write_run, tmp_path):
    """There nothing tells of the teacher's weights."""
    write_run("run", checkpoint_sha256="c" * 64, protocol=dict(model="Student(), teacher's weights 01234567"))
    write_run("test", checkpoint_sha256="c" * 64, origin="test", protocol=dict(model="Student()", data=None))
    assert [run.name for run in collect([tmp_path]).runs] == ["work_dirs/run/run.json"]


def test_finished_without_evaluation_is_named(write_run, tmp_path):
    write_run("run", result=None)
    collection = collect([tmp_path])
    assert collection.runs == ()
    assert "without an evaluation" in collection.problems[0]


def with_predictions(write_run, tmp_path: Path, ids: list[int], of_truth: list[int], **changes: object) -> Path:
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(dict(images=[dict(id=i) for i in of_truth])))
    path = write_run("run", AP=31.0)
    boxes = path.with_name("predictions.bbox.json")
    boxes.write_text(json.dumps([dict(image_id=i, category_id=1, bbox=[0, 0, 5, 5], score=0.5) for i in ids]))
    predictions = dict(kind="coco_boxes", path=boxes.name, ground_truth=str(truth), sha256=sha256_of(boxes)) | changes
    result = Result(metrics={"AP": 31.0}, predictions=(Predictions(**predictions),))
    return write_run("run", result=result)


def test_predictions_of_the_record_are_fine(write_run, tmp_path):
    with_predictions(write_run, tmp_path, [1, 2], [1, 2, 3])
    for verify in (False, True):
        assert collect([tmp_path], verify).problems == ()


def test_predictions_of_other_data_take_the_record_out(write_run, tmp_path):
    with_predictions(write_run, tmp_path, [1, 77], [1, 2, 3])
    collection = collect([tmp_path])
    assert collection.runs == ()
    assert "image 77 is not in truth.json" in collection.problems[0]


def test_an_id_that_the_beginning_of_a_file_cuts_is_no_other_image(write_run, tmp_path):
    """The entries are moved by up to one's length, so that some beginning ends within an id."""
    ids = list(range(100_000, 101_000))
    file = with_predictions(write_run, tmp_path, ids, ids).with_name("predictions.bbox.json")
    text = file.read_text()
    for shift in range(0, 90, 3):
        file.write_text(" " * shift + text)
        assert collect([tmp_path]).problems == ()


def test_other_data_behind_the_beginning_are_seen_by_verifying(write_run, tmp_path):
    with_predictions(write_run, tmp_path, [1] * 1000 + [77], [1])
    assert collect([tmp_path]).problems == ()
    assert "image 77" in collect([tmp_path], verify=True).problems[0]


def test_record_that_is_a_link_out_of_the_folder(write_run, tmp_path):
    stored = write_run("../stored/run")
    link = tmp_path / "work_dirs" / "run" / "run.json"
    link.parent.mkdir(parents=True)
    link.symlink_to(stored)
    assert [run.name for run in collect([tmp_path / "work_dirs"]).runs] == ["run/run.json"]


def test_changed_predictions_are_seen_by_verifying(write_run, tmp_path):
    with_predictions(write_run, tmp_path, [1], [1], sha256="0" * 64)
    assert collect([tmp_path]).problems == ()
    (problem,) = collect([tmp_path], verify=True).problems
    assert "SHA-256" in problem


def test_missing_predictions_are_named_but_tabulated(write_run, tmp_path):
    path = with_predictions(write_run, tmp_path, [1], [1])
    path.with_name("predictions.bbox.json").unlink()
    collection = collect([tmp_path])
    assert [run.record.result.metrics["AP"] for run in collection.runs] == [31.0]
    assert "are missing" in collection.problems[0]


@pytest.mark.parametrize("content", ['{"images": [', '{"images": 7}', None])
def test_ground_truth_that_is_damaged_is_named_and_the_record_tabulated(write_run, tmp_path, content):
    """It says nothing against the numbers."""
    with_predictions(write_run, tmp_path, [1], [1])
    truth = tmp_path / "truth.json"
    truth.unlink()
    if content is None:
        truth.mkdir()
    else:
        truth.write_text(content)
    collection = collect([tmp_path])
    assert [run.record.result.metrics["AP"] for run in collection.runs] == [31.0]
    (problem,) = collection.problems
    assert "run/run.json: its ground truth truth.json " in problem
    assert "it is tabulated" in problem


def test_folder_of_label_maps_without_any_is_named_and_the_record_tabulated(write_run, tmp_path):
    (tmp_path / "truth").mkdir()
    maps = Predictions(kind="label_maps", path="maps", ground_truth=str(tmp_path / "truth"))
    (write_run("run", result=Result(metrics={"mIoU": 31.0}, predictions=(maps,))).parent / "maps").mkdir()
    collection = collect([tmp_path])
    assert len(collection.runs) == 1
    assert "no folder of label maps" in collection.problems[0]


def test_folders_whose_names_are_no_text_are_named_and_the_rest_tabulated(write_run, tmp_path):
    shutil.copytree(write_run("good", seed=0).parent, os.fsdecode(os.fsencode(tmp_path) + b"/work_dirs/run_\xff"))
    write_run("good", seed=1)
    collection = collect([tmp_path])
    assert [run.name for run in collection.runs] == ["work_dirs/good/run.json"]
    (problem,) = collection.problems
    assert problem.startswith(r"work_dirs/run_\udcff/run.json: its path is not UTF-8")
    problem.encode()
    shutil.rmtree(tmp_path / "work_dirs" / "good")
    with pytest.raises(UserError, match=r"can be tabulated: .* its path is not UTF-8"):
        collect([tmp_path])


def test_folders_that_cannot_be_read_are_named_and_the_rest_tabulated(write_run, tmp_path, lock):
    write_run("good", seed=0)
    lock(write_run("locked", seed=1).parent)
    collection = collect([tmp_path])
    assert [run.name for run in collection.runs] == ["work_dirs/good/run.json"]
    assert collection.problems == ("work_dirs/locked: the folder cannot be read (Permission denied).",)


def test_label_maps_of_other_data(write_run, tmp_path):
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "street.png").touch()
    path = write_run("run")
    (path.parent / "maps").mkdir()
    (path.parent / "maps" / "kitchen.png").touch()
    maps = Predictions(kind="label_maps", path="maps", ground_truth=str(truth))
    write_run("run", result=Result(metrics={"mIoU": 31.0}, predictions=(maps,)))
    (problem,) = collect([tmp_path]).problems
    assert "kitchen" in problem


def test_label_maps_whose_suffix_is_in_capitals(write_run, tmp_path):
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "street.PNG").touch()
    maps = Predictions(kind="label_maps", path="maps", ground_truth=str(tmp_path / "truth"))
    folder = write_run("run", result=Result(metrics={"mIoU": 31.0}, predictions=(maps,))).parent / "maps"
    folder.mkdir()
    (folder / "street.png").touch()
    assert collect([tmp_path]).problems == ()


def test_nothing_to_tabulate_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"no run\.json below"):
        collect([tmp_path])
    with pytest.raises(UserError, match="is not a folder"):
        collect([tmp_path / "nowhere"])


@pytest.mark.parametrize("content", [b'[{"image_id": 007, "bbox": [1, 2, 3, 4]}]', None])
def test_predictions_that_cannot_be_read_are_named(write_run, tmp_path, content):
    file = with_predictions(write_run, tmp_path, [1], [1]).with_name("predictions.bbox.json")
    file.unlink()
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    runs, problems = collect([tmp_path]).runs, collect([tmp_path]).problems
    assert not runs
    assert "predictions.bbox.json" in problems[0]
    assert "so its numbers are left out" in problems[0]
