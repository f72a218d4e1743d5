"""Comparisons that are refused, each in one sentence that names what is wrong."""

import json
import shutil
from pathlib import Path

import pytest

from fvnet_mm.errors import UserError
from fvnet_mm.records import Data, Protocol, Split
from fvnet_mm.report.statistics.compare import compare_seeds
from fvnet_mm.report.statistics.runs import Run


def refused(*runs: Run, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        compare_seeds(runs[:1], runs[1:], resamples=10, **options)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def changed(run: Run, **fields: object) -> Run:
    return Run(run.record.model_copy(update=fields), run.folder)


def unsigned(run: Run) -> Run:
    """The run with a record that does not say the digest of its predictions."""
    kept = tuple(entry.model_copy(update=dict(sha256=None)) for entry in run.record.result.predictions)
    return changed(run, result=run.record.result.model_copy(update=dict(predictions=kept)))


def make_unreadable(file: Path) -> None:
    """Puts in a file's place one that the system opens and does not read, not even for root."""
    file.unlink()
    file.symlink_to("/proc/self/mem")


@pytest.mark.parametrize(("kind", "file"), [("coco_boxes", "coco_boxes.json"), ("label_maps", "maps")])
def test_missing_predictions(kind: str, file: str, make_run):
    run, other = make_run(kind), make_run(kind, "b")
    path = other.folder / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    sentence = refused(run, other)
    assert f"the predictions {path} of b in {other.folder} are missing" in sentence
    assert "evaluate again" in sentence


def test_predictions_that_changed(make_run):
    runs = make_run("coco_boxes"), make_run("coco_boxes", "b")
    path = runs[1].folder / "coco_boxes.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:-1]))
    assert f"{path} have changed since the record beside them was written" in refused(*runs)
    runs = make_run("label_maps"), make_run("label_maps", "b")
    (runs[0].folder / "maps" / "003.png").write_bytes((runs[0].folder / "maps" / "004.png").read_bytes())
    assert "maps have changed" in refused(*runs)


@pytest.mark.parametrize("kind", ["coco_boxes", "classes"])
def test_truncated_predictions(kind: str, make_run):
    runs = make_run(kind), unsigned(make_run(kind, "b"))
    path = runs[1].folder / f"{kind}.json"
    path.write_text(path.read_text()[:100])
    assert f"the predictions {path} are not JSON" in refused(*runs)


def test_no_predictions(make_run):
    run, other = make_run("classes"), make_run("classes", "b")
    assert "b in" in refused(run, changed(other, result=None))
    without = other.record.result.model_copy(update=dict(predictions=()))
    assert "keeps no predictions; evaluate its checkpoint again" in refused(run, changed(other, result=without))


def test_other_kinds_of_predictions(make_run):
    run, other = make_run("coco_masks"), make_run("coco_masks", "b")
    boxes = other.record.result.model_copy(update=dict(predictions=other.record.result.predictions[:1]))
    sentence = refused(run, changed(other, result=boxes))
    assert "the kinds coco_boxes, coco_masks and b in" in sentence


def test_other_task(make_run):
    sentence = refused(make_run("coco_boxes"), make_run("classes", "b"))
    assert "does detection and b in" in sentence
    assert "classification; compare runs of one task" in sentence


def test_other_protocol(make_run):
    long = "Resize " * 10
    fields = dict(framework="some", train_pipeline=long, learning_rate=1e-4)
    run = make_run("classes", protocol=Protocol(**fields))
    other = make_run("classes", "b", protocol=Protocol(**fields | dict(learning_rate=2e-4, train_pipeline=long + "!")))
    assert "(learning rate 0.0001 and 0.0002, train pipeline)" in refused(run, other)
    assert "(learning rate 0.0001 and 0.0002, train pipeline)" in refused(run, run, other)
    assert compare_seeds([run], [other], resamples=10, allow_other_protocol=True).notes


def test_other_data_set(make_run):
    for kind in ("coco_boxes", "label_maps", "classes"):
        run, other = make_run(kind), make_run(kind, "b")
        data = other.record.data.model_copy(update=dict(val=Split(images=40, fingerprint="ab" * 32)))
        assert "were evaluated on different validation data" in refused(run, changed(other, data=data))


def test_other_classes(make_run):
    run, other = make_run("classes"), make_run("classes", "b")
    data = Data(label="animals", classes=("cat", "dog"), val=run.record.data.val)
    assert "have different classes" in refused(run, changed(other, data=data))
    assert "has the classes 2, but the 2 classes are numbered 0 to 1" in refused(
        *(changed(each, data=data) for each in (run, other))
    )
    assert "does not say what its classes are" in refused(run, changed(other, data=None))


def test_classes_that_the_annotation_file_lacks(make_run):
    runs = [make_run("coco_boxes"), make_run("coco_boxes", "b")]
    data = runs[0].record.data.model_copy(update=dict(classes=("cat", "dog", "hen")))
    assert "lacks the categories 'hen' that small in" in refused(*(changed(run, data=data) for run in runs))


def test_ground_truth_that_is_gone_or_another(make_run, tmp_path):
    runs = make_run("coco_boxes"), make_run("coco_boxes", "b")
    truth = make_run.annotations.read_text()
    make_run.annotations.write_text(truth + "\n")
    assert "is not the annotation file that small in" in refused(*runs)
    make_run.annotations.unlink()
    assert f"is not where its record says ({make_run.annotations}); name where it is now" in refused(*runs)
    assert "nowhere.json does not exist" in refused(*runs, ground_truth=tmp_path / "nowhere.json")


def test_files_that_cannot_be_read(make_run):
    runs = make_run("coco_boxes"), make_run("coco_boxes", "b")
    make_unreadable(make_run.annotations)
    assert f"the ground truth {make_run.annotations} cannot be read: Input/output error." in refused(*runs)
    path = runs[1].folder / "coco_boxes.json"
    make_unreadable(path)
    assert f"the predictions {path} cannot be read: Input/output error." in refused(*runs)


def test_ground_truth_that_may_be_another(make_run, tmp_path):
    """No record has a fingerprint, and two files are named."""
    data = Data(label="animals", classes=("cat", "dog", "fox"))
    run, other = (changed(make_run("coco_boxes", name), data=data) for name in "ab")
    (tmp_path / "copy.json").write_text(make_run.annotations.read_text())
    kept = [other.record.result.predictions[0].model_copy(update=dict(ground_truth=str(tmp_path / "copy.json")))]
    other = changed(other, result=other.record.result.model_copy(update=dict(predictions=tuple(kept))))
    compare_seeds([run], [other], resamples=10)
    (tmp_path / "copy.json").write_text(make_run.annotations.read_text() + " ")
    assert "may be different ground truth" in refused(run, other)
    (tmp_path / "copy.json").unlink()
    assert "may be different ground truth" in refused(run, other)
    compare_seeds([run], [other], resamples=10, ground_truth=make_run.annotations)


def test_predictions_of_other_images(make_run):
    run, other = make_run("classes"), unsigned(make_run("classes", "b"))
    path = other.folder / "classes.json"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps(entries[:-1]))
    assert "are of different images or labels" in refused(run, other)
    assert "are of 39 images, but the record of b in" in refused(other, other)


def test_predictions_of_other_label_maps_or_labels(make_run):
    """As many of each, so that the record's number of images says nothing."""
    run, other = make_run("label_maps"), unsigned(make_run("label_maps", "b"))
    for each, number in ((run, "003"), (other, "004")):
        (each.folder / "maps" / f"{number}.png").unlink()
    assert "are of different images or labels" in refused(unsigned(run), other)
    run, other = make_run("classes"), unsigned(make_run("classes", "b"))
    path = other.folder / "classes.json"
    entries = json.loads(path.read_text())
    entries[0]["label"] = (entries[0]["label"] + 1) % 3
    path.write_text(json.dumps(entries))
    assert "are of different images or labels" in refused(run, other)


def test_fewer_images_than_the_record_says(make_run):
    runs = [make_run("coco_boxes"), make_run("coco_boxes", "b")]
    data = runs[0].record.data.model_copy(update=dict(val=Split(images=41)))
    assert "val.json has 40 images, but the record of small in" in refused(*(changed(run, data=data) for run in runs))
