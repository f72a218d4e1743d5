"""Whole comparisons of records with generated predictions."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fvnet_mm.records import Evaluation, Protocol, Result
from fvnet_mm.report.statistics.compare import compare_seeds
from fvnet_mm.report.statistics.comparison import Comparison, Difference
from fvnet_mm.report.statistics.resampling import BLOCK
from fvnet_mm.report.statistics.runs import Run
from fvnet_mm.report.statistics.seeds import joint_interval

KINDS = ("coco_boxes", "coco_masks", "label_maps", "classes")
COCO = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")
METRICS = {
    "coco_boxes": COCO,
    "coco_masks": (*COCO, *(f"mask {name}" for name in COCO)),
    "label_maps": ("mIoU", "mAcc", "aAcc"),
    "classes": ("top-1",),
}
PER_CLASS = {
    "coco_boxes": ("AP",),
    "coco_masks": ("AP", "mask AP"),
    "label_maps": ("IoU",),
    "classes": ("top-1",),
}


def compared(first: list[Run], second: list[Run], **options: object) -> Comparison:
    return compare_seeds(first, second, **dict(resamples=300) | options)


def entries(comparison: Comparison) -> list[Difference]:
    """Of metrics and classes, those that are defined; large objects there are none."""
    everything = [*comparison.metrics, *(entry for classes in comparison.per_class.values() for entry in classes)]
    return [entry for entry in everything if entry.difference is not None]


def unsigned(run: Run) -> Run:
    """The run with a record that says neither how many images there are nor what the digest of its predictions is."""
    kept = tuple(entry.model_copy(update=dict(sha256=None)) for entry in run.record.result.predictions)
    data = run.record.data.model_copy(update=dict(val=None))
    return Run(run.record.model_copy(update=dict(data=data, result=Result(metrics={}, predictions=kept))), run.folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_with_itself(kind: str, make_run):
    run = make_run(kind)
    comparison = compared([run], [run])
    assert tuple(entry.name for entry in comparison.metrics) == METRICS[kind]
    assert tuple(comparison.per_class) == PER_CLASS[kind]
    assert all([entry.name for entry in classes] == ["cat", "dog", "fox"] for classes in comparison.per_class.values())
    assert comparison.images == 40
    for entry in entries(comparison):
        assert entry.difference == entry.interval.low == entry.interval.high == 0
        assert entry.verdict == "within noise"
        assert 20 < entry.first == entry.second < 95


@pytest.mark.parametrize("kind", KINDS)
def test_a_better_model_either_way(kind: str, make_run):
    worse, better = make_run(kind, "worse", 0.3), make_run(kind, "better", 0.95)
    forth, back = compared([worse], [better]), compared([better], [worse])
    assert (forth.first, forth.second) == (back.second, back.first) == ("worse", "better")
    for one, other in zip(entries(forth), entries(back), strict=True):
        assert one.verdict == ("within noise" if one.name.endswith("AP_S") and one.interval.low <= 0 else "higher")
        assert other.verdict == {"higher": "lower", "within noise": "within noise"}[one.verdict]
        assert one.difference == -other.difference == one.second - one.first
        assert (one.first, one.second) == (other.second, other.first)
        assert (one.interval.low, one.interval.high) == pytest.approx((-other.interval.high, -other.interval.low))
        assert one.interval.low < one.difference < one.interval.high


def test_a_metric_without_objects_is_undefined(make_run):
    large = next(entry for entry in compared([make_run("coco_boxes")], [make_run("coco_boxes", "b")]).metrics[5:])
    assert (large.name, large.verdict) == ("AP_L", "undefined")
    assert [large.first, large.second, large.difference, large.interval, large.seeds] == [None] * 5


def test_the_order_of_the_images_in_a_file_does_not_matter(make_run):
    first, second = unsigned(make_run("classes", "a")), unsigned(make_run("classes", "b"))
    expected = compared([first], [second])
    file = second.folder / "classes.json"
    file.write_text(json.dumps(json.loads(file.read_text())[::-1]))
    assert compared([first], [second]) == expected


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")
@pytest.mark.parametrize("kind", ["coco_boxes", "label_maps", "classes"])
def test_several_seeds(kind: str, make_run):
    first = [make_run(kind, "worse", 0.5, seed) for seed in range(3)]
    second = [make_run(kind, "better", 0.9, seed) for seed in range(2)]
    comparison = compared(first, second)
    assert comparison.runs == (3, 2)
    alone = [compared([run], [run]).metrics[0].first for run in (*first, *second)]
    main = comparison.metrics[0]
    assert (main.first, main.second) == pytest.approx((np.mean(alone[:3]), np.mean(alone[3:])))
    assert main.difference == pytest.approx(main.seeds.difference)
    reference = stats.ttest_ind(alone[3:], alone[:3], equal_var=False)
    assert main.seeds.p_value == pytest.approx(reference.pvalue)
    limits = reference.confidence_interval(0.95)
    assert (main.seeds.interval.low, main.seeds.interval.high) == pytest.approx((limits.low, limits.high))
    assert main.joint == joint_interval(main.difference, main.interval, main.seeds.interval)
    assert main.verdict == ("higher" if main.joint.low > 0 else "within noise")
    assert all(entry.seeds is entry.joint is None for classes in comparison.per_class.values() for entry in classes)


def test_seeds_that_disagree_are_noise_whatever_the_images_say(make_run):
    first = [make_run("label_maps", "a", right, seed) for seed, right in enumerate((0.5, 0.9))]
    second = [make_run("label_maps", "b", right, seed) for seed, right in enumerate((0.6, 0.99))]
    main = compared(first, second).metrics[0]
    assert main.interval.low > 0
    assert main.seeds.interval.low <= 0 <= main.seeds.interval.high
    assert main.verdict == "within noise"


def test_a_single_run_has_no_interval_over_seeds(make_run):
    runs = [make_run("classes", "a", seed=seed) for seed in range(3)]
    for first, second in (runs[:1], runs[1:]), (runs[:1], runs[1:2]):
        main = compared(first, second).metrics[0]
        seeds = main.seeds
        assert main.joint is None
        assert (seeds.interval, seeds.p_value) == (None, None)
        assert "single run" in seeds.reason


def test_same_again(make_run):
    runs = [make_run("coco_boxes")], [make_run("coco_boxes", "b")]
    comparison = compared(*runs)
    assert compared(*runs) == comparison
    other = compared(*runs, seed=1)
    assert other.metrics[0].difference == comparison.metrics[0].difference
    assert other.metrics[0].interval != comparison.metrics[0].interval


def test_json(make_run):
    comparison = compared([make_run("coco_boxes")], [make_run("coco_boxes", "b")])
    content = json.loads(json.dumps(asdict(comparison), allow_nan=False))
    assert content["metrics"][0]["name"] == "AP"
    assert content["metrics"][0]["interval"]["low"] == comparison.metrics[0].interval.low
    assert content["metrics"][5]["difference"] is None


def test_progress(make_run):
    told = []
    run = make_run("coco_boxes")
    compared([run], [run], resamples=2000, progress=lambda *state: told.append(state))
    reading = f"reading {run.folder / 'coco_boxes.json'}"
    classes = [(reading, number, 3) for number in (1, 2, 3)]
    assert told == [*classes, *classes, ("resampling", BLOCK, 2000), ("resampling", 2000, 2000)]


def test_ground_truth_elsewhere(make_run, tmp_path: Path):
    runs = [make_run("coco_boxes")], [make_run("coco_boxes", "b")]
    expected = compared(*runs)
    moved = make_run.annotations.rename(tmp_path / "moved.json")
    assert compared(*runs, ground_truth=moved) == expected


def test_notes(make_run):
    known = dict.fromkeys(("learning_rate", "weight_decay", "gradient_clip"), 1.0)
    run = make_run("classes", protocol=Protocol(framework="some", **known))
    other = make_run("classes", "b", protocol=Protocol(framework="some", **known | dict(weight_decay=2.0)))
    notes = compared([run], [other], allow_other_protocol=True).notes
    assert f"{other.name} is of another protocol than {run.name}: weight decay 1.0 and 2.0" in notes
    assert any("what their records do not say: data, model, optimizer" in note for note in notes)
    again = make_run("classes", "c", protocol=run.record.protocol)
    twice = compared([run], [again, again]).notes
    assert "several runs of c have one seed, so that their spread may be too small" in twice


def test_unknown_seeds_and_those_of_the_other_model_are_not_called_shared(make_run):
    runs = [make_run("classes", "a", seed=seed) for seed in range(3)]
    unknown = [Run(run.record.model_copy(update=dict(seed=None)), run.folder) for run in runs[:2]]
    for first, second in (unknown, runs[2:]), (runs[:2], runs[:1]):
        assert not any("have one seed" in note for note in compared(first, second).notes)


def test_a_run_that_has_not_finished_is_noted(make_run):
    run = make_run("classes", protocol=Protocol(framework="some", length=12))
    evaluations = tuple(Evaluation(step=step, metrics={}) for step in (3, 6))
    other = make_run(
        "classes", "b", protocol=run.record.protocol, status="running", unit="epoch", evaluations=evaluations
    )
    sentence = f"{other.name} has not finished: its predictions are those after epoch 6 of 12"
    assert [note for note in compared([run], [other]).notes if "finished" in note] == [sentence]


@pytest.mark.parametrize(("images", "few"), [(29, True), (30, False)])
def test_few_images_are_noted(images: int, few: bool, make_run):
    run = make_run("classes")
    file = run.folder / "classes.json"
    file.write_text(json.dumps(json.loads(file.read_text())[:images]))
    run = unsigned(run)
    assert any("images are few" in note for note in compared([run], [run]).notes) == few


@pytest.mark.parametrize(("images", "enough"), [(1, False), (4, False), (5, True)])
def test_a_split_of_too_few_images_has_a_difference_and_no_verdict(images: int, enough: bool, make_run):
    """As a class in so few."""
    runs = []
    for name, right in (("worse", 0.0), ("better", 1.0)):
        run = make_run("classes", name, right)
        file = run.folder / "classes.json"
        file.write_text(json.dumps(json.loads(file.read_text())[:images]))
        runs.append(unsigned(run))
    comparison = compared(*([run] for run in runs))
    (top,) = comparison.metrics
    assert (top.interval is not None, top.verdict != "undefined") == (enough, enough)
    assert top.difference == top.second - top.first
    assert all(entry.interval is None for entry in comparison.per_class["top-1"]) or enough
    assert any("too few for an interval, which takes 5" in note for note in comparison.notes) != enough


def test_a_class_in_too_few_images_has_a_difference_and_no_verdict(make_run):
    """Of two images among 40, one resample in eight has none."""
    runs = [make_run("classes", name, right) for name, right in (("worse", 0.3), ("better", 0.95))]
    for run in runs:
        file = run.folder / "classes.json"
        entries = json.loads(file.read_text())
        for number, entry in enumerate(entries):
            entry["label"] = 2 if number < 2 else number % 2
        file.write_text(json.dumps(entries))
    cat, _, fox = compared(*([unsigned(run)] for run in runs)).per_class["top-1"]
    assert cat.interval is not None
    assert (fox.interval, fox.verdict) == (None, "undefined")
    assert fox.difference == fox.second - fox.first


@pytest.mark.parametrize("difference", [1, -1])
def test_a_record_unlike_its_predictions(difference: int, make_run):
    run = make_run("label_maps")
    honest = compared([run], [run])
    kept = run.record.result.predictions
    stated = {"mIoU": honest.metrics[0].first + difference, "aAcc": honest.metrics[2].first, "mAcc": None}
    lying = Run(run.record.model_copy(update=dict(result=Result(metrics=stated, predictions=kept))), run.folder)
    notes = set(compared([run], [lying]).notes) - set(honest.notes)
    assert len(notes) == 1
    assert f"says mIoU {stated['mIoU']:.2f}, its predictions give {honest.metrics[0].first:.2f}" in notes.pop()
