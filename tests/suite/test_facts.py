"""What a training will do, against the numbers that its protocol states."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fvnet_mm.engine.tasks.base import DataSplit
from fvnet_mm.errors import UserError
from fvnet_mm.places import ROOT
from fvnet_mm.suite.commands import require_data
from fvnet_mm.suite.facts import Facts, facts_of
from fvnet_mm.suite.reading import Suite, read_suite
from fvnet_mm.suite.timing import Timing, keep


def facts(read: Callable[[str], Suite], run: str) -> Facts:
    (job,) = read(f"runs: [{{{run}}}]").jobs
    return facts_of(job, {})


@pytest.mark.parametrize(
    ("config", "trained", "evaluated", "batch", "checkpoints"),
    [
        ("retinanet_fvnet_t_coco", 12 * 118_287, 12 * 5_000, 2, 4),
        ("mask_rcnn_fvnet_t_coco_3x", 36 * 118_287, 36 * 5_000, 2, 4),
        ("semantic_fpn_fvnet_t_ade20k", 40_000 * 32, 10 * 2_000, 4, 4),
        ("upernet_fvnet_t_ade20k", 160_000 * 16, 10 * 2_000, 2, 4),
    ],
)
def test_the_protocol_in_images(
    read: Callable[[str], Suite], config: str, trained: int, evaluated: int, batch: int, checkpoints: int
) -> None:
    found = facts(read, f"config: configs/{config}.py")
    assert (found.trained_images, found.evaluated_images, found.batch) == (trained, evaluated, batch)
    assert found.checkpoints == checkpoints
    assert found.assumed == ("COCO 2017" if config.endswith(("coco", "3x")) else "ADE20K")


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        ("config: configs/retinanet_fvnet_s_shapes.py", r"make it with `python tools/make_shapes.py data/shapes`"),
        ("config: configs/upernet_fvnet_s_shapes.py", r"make it with `python tools/make_shapes.py data/shapes`"),
        (
            "config: configs/retinanet_fvnet_t_coco.py, "
            "cfg_options: [train_dataloader.dataset.ann_file=annotations/mine.json]",
            r"data/coco/annotations/mine.json does not exist",
        ),
        (
            "config: configs/upernet_fvnet_t_ade20k.py, cfg_options: [val_dataloader.dataset.data_root=data/ad]",
            "data/a.* does not exist",
        ),
        ("config: configs/fvnet_t_in1k.py, cfg_options: [val_dataloader.dataset.data_root=data/in]", "no data in"),
    ],
)
def test_no_benchmarks_images_are_counted_for_other_data(read: Callable[[str], Suite], run: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        facts(read, run)


def test_a_benchmark_that_is_here_and_wrong_is_not_assumed(
    read: Callable[[str], Suite], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train2017", "val2017", "annotations"):
        (tmp_path / "data" / "coco" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    run = f"config: {ROOT / 'configs/retinanet_fvnet_t_coco.py'}"
    assert facts(read, run).assumed == "COCO 2017"
    for name in ("train", "val"):
        (tmp_path / "data" / "coco" / "annotations" / f"instances_{name}2017.json").write_text("{")
    with pytest.raises(UserError, match=r"instances_train2017\.json"):
        facts(read, run)


def test_the_demo_and_its_options(read: Callable[[str], Suite]) -> None:
    whole = facts(read, "config: configs/retinanet_fvnet_t_coco.py, data: demo")
    assert (whole.trained_images, whole.evaluated_images, whole.assumed) == (4 * 256, 3 * 48, None)
    short = facts(read, "config: configs/retinanet_fvnet_t_coco.py, data: demo, cfg_options: [train_cfg.max_epochs=2]")
    assert (short.trained_images, short.checkpoints) == (2 * 256, 2)
    steps = facts(read, "config: configs/upernet_fvnet_t_ade20k.py, data: demo")
    assert (steps.trained_images, steps.evaluated_images) == (256 * 4, 3 * 48)


@pytest.mark.parametrize(("indices", "images"), [("64", 64), ("-64", 64), ("300", 256), ("[0,2,5]", 3)])
def test_indices_leave_images_out(read: Callable[[str], Suite], indices: str, images: int) -> None:
    options = json.dumps([f"train_dataloader.dataset.indices={indices}"])
    found = facts(read, f"config: configs/retinanet_fvnet_t_coco.py, data: demo, cfg_options: {options}")
    assert (found.trained_images, found.val_images) == (4 * images, 48)


@pytest.mark.parametrize("data", ["own", "named"])
def test_images_that_the_filter_drops_are_not_trained(
    read: Callable[[str], Suite], tiny_coco: Path, tmp_path: Path, data: str
) -> None:
    root = Path(shutil.copytree(tiny_coco, tmp_path / "coco"))
    annotations = root / "annotations" / "instances_train2017.json"
    content = json.loads(annotations.read_text())
    kept = [each for each in content["annotations"] if each["image_id"] != content["images"][0]["id"]]
    annotations.write_text(json.dumps(content | {"annotations": kept}))
    where = own(root) if data == "own" else f"data: {root}"
    assert facts(read, f"config: configs/retinanet_fvnet_t_coco.py, {where}").trained_images == 12 * 7


@pytest.mark.parametrize("indices", ["0", "all"])
def test_indices_that_take_nothing_are_refused(read: Callable[[str], Suite], indices: str) -> None:
    option = f"train_dataloader.dataset.indices={indices}"
    with pytest.raises(UserError, match=r"train_dataloader.dataset.indices is .*, which takes no image; give a number"):
        facts(read, f"config: configs/retinanet_fvnet_t_coco.py, data: demo, cfg_options: [{option}]")


@pytest.mark.parametrize("option", ["dataset.indices=20", "num_batch_per_epoch=3"])
def test_an_evaluation_leaves_no_image_out(read: Callable[[str], Suite], option: str) -> None:
    with pytest.raises(
        UserError, match=f"the evaluation's {option.split('=')[0]} would leave out images whose objects"
    ):
        facts(read, f"config: configs/retinanet_fvnet_t_coco.py, data: demo, cfg_options: [val_dataloader.{option}]")


def test_the_suite_of_the_demo_in_images() -> None:
    jobs = [job for job in read_suite(ROOT / "suites" / "demo.yaml").jobs if job.seed == 0]
    trained = {job.name.removesuffix("_demo_seed0"): facts_of(job, {}).trained_images for job in jobs}
    assert trained["mask_rcnn_fvnet_t_coco"] == 2 * 64
    assert trained["retinanet_fvnet_t_coco"] == 2 * 256


def test_the_digest_is_of_the_training_not_of_its_seed(read: Callable[[str], Suite]) -> None:
    run = "config: configs/retinanet_fvnet_t_coco.py, data: demo, seeds: [{}], amp: {}"
    first, seed, amp = (facts(read, run.format(*values)).digest for values in ((0, "bf16"), (1, "bf16"), (0, "fp16")))
    assert first == seed != amp


def test_a_folder_counts_its_images(read: Callable[[str], Suite], tiny_coco: object, tiny_ade20k: object) -> None:
    found = facts(read, f"config: configs/retinanet_fvnet_t_coco.py, data: {tiny_coco}")
    assert (found.trained_images, found.val_images) == (12 * 8, 4)
    with pytest.raises(UserError):
        facts(read, f"config: configs/retinanet_fvnet_t_coco.py, data: {tiny_ade20k}")


def own(folder: object) -> str:
    """The options by which a config for COCO reads another folder."""
    return "cfg_options: " + json.dumps([f"{name}_dataloader.dataset.data_root={folder}/" for name in ("train", "val")])


def test_each_config_and_option_has_its_own_data(read: Callable[[str], Suite], tiny_coco: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.py"
    config.write_text(f"_base_ = {str(ROOT / 'configs/retinanet_fvnet_t_coco.py')!r}\n")
    here = f"{{config: configs/retinanet_fvnet_t_coco.py, name: a, {own(tiny_coco)}}}"
    require_data(read(f"runs: [{here}]").jobs)
    elsewhere = f"{{config: configs/retinanet_fvnet_t_coco.py, {own('/nowhere')}}}"
    for other in (f"{{config: {config}}}", elsewhere):
        suite = read(f"runs: [{here}, {other}]")
        with pytest.raises(UserError, match="there is no data in"):
            require_data(suite.jobs)
        counted: dict[tuple[str, str], tuple[DataSplit, int]] = {}
        first = facts_of(suite.jobs[0], counted)
        assert (first.assumed, first.val_images) == (None, 4)
        if other == elsewhere:
            with pytest.raises(UserError, match=r"there is no data in /nowhere"):
                facts_of(suite.jobs[1], counted)
        else:
            assert facts_of(suite.jobs[1], counted).assumed == "COCO 2017"


def test_data_of_many_configs_is_counted_once(
    read: Callable[[str], Suite], tiny_coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = ("retinanet_fvnet_t_coco", "retinanet_fvnet_s_coco", "mask_rcnn_fvnet_t_coco")
    runs = ", ".join(f"{{config: configs/{config}.py, seeds: [0, 1], {own(tiny_coco)}}}" for config in configs)
    calls = []
    monkeypatch.setattr("fvnet_mm.suite.facts.count_images", lambda job, cfg, task: calls.append(job.name))
    require_data(read(f"runs: [{runs}]").jobs)
    assert len(calls) == 1


def test_hours_and_bytes(tmp_path: Path) -> None:
    known = dict(task="Detection", framework="retinanet", assumed=None, by_epoch=True, val_batch=1, digest="")
    known |= dict(data_set="train_dataloader.dataset", repeated=(), set_images=3600)
    facts = Facts(
        **known, trained_images=7200, evaluated_images=3600, val_images=100, batch=2, workers=2, checkpoints=4
    )
    known = dict(device="x", threads=1, steps=1, warm_up=0, batch=2, peak_memory=None)
    timing = Timing(
        **known,
        train_seconds=2,
        load_seconds=1,
        test_seconds=1,
        test_load_seconds=4,
        checkpoint_bytes=1000,
        prediction_bytes=2.5,
        other_bytes=7,
    )
    assert timing.hours(facts, on_gpu=False) == pytest.approx(2 * 3 + 5)
    assert timing.hours(facts, on_gpu=True) == pytest.approx(2 * 2 + 2)  # two loaders: training hides them
    assert timing.disk_bytes(facts) == 4 * 1000 + 250 + 7
    (tmp_path / "taken").touch()
    with pytest.raises(UserError, match=r"the measurement .*timing.json cannot be written: (File exists|Not a dir)"):
        keep(timing, tmp_path / "taken" / "timing.json")
