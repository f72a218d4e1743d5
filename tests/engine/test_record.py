"""Records of whole runs on tiny generated sets."""

import contextlib
import errno
import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import fvnet_mm.engine.record
from fvnet_mm.engine import earlier_record
from fvnet_mm.engine.checkpoint import read_checkpoint
from fvnet_mm.engine.config_file import apply_overrides, read_config
from fvnet_mm.engine.runner import build_model
from fvnet_mm.files import sha256_of
from fvnet_mm.records import RunRecord
from fvnet_mm.records.reading import read_record
from fvnet_mm.report.leaderboard.rows import row_id

Run = Callable[..., int]
ROOT = Path(__file__).parents[2]
RETINANET = ROOT / "configs" / "retinanet_fvnet_t_coco.py"
EVERYTHING_FOUND = "model.test_cfg.score_thr=0.001"  # an untrained network is sure of nothing


def logged(work_dir: Path) -> list[dict[str, float]]:
    """Metrics of a work dir's evaluations, as mmengine logged them."""
    files = sorted(work_dir.glob("*/vis_data/scalars.json"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [line for line in lines if "loss" not in line]


def quietly_evaluated(record: RunRecord, work_dir: Path) -> COCOeval:
    """By pycocotools alone, from the files that a record names."""
    boxes = record.result.predictions[0]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(boxes.ground_truth)
        evaluation = COCOeval(truth, truth.loadRes(str(work_dir / boxes.path)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def test_a_detector(run: Run, tiny_coco: Path, small_run: list[str], tmp_path: Path) -> None:
    whole, words = tmp_path / "whole", ["--data", tiny_coco, *small_run, EVERYTHING_FOUND]
    assert run("train", RETINANET, "--work-dir", whole, "--seed", 3, *words) == 0
    record = read_record(whole / "run.json")
    assert (record.origin, record.status, record.seed, record.unit) == ("train", "finished", 3, "epoch")
    assert (record.task, record.framework, record.backbone.name) == ("detection", "retinanet", "fvnet_t")
    assert record.config.sha256 == sha256_of(whole / record.config.file)
    assert record.protocol.pretraining == "scratch"
    assert record.protocol.frozen_stages == -1
    assert (record.data.label, record.data.train.images, record.data.val.images) == ("tiny", 8, 4)
    annotations = json.loads((tiny_coco / "annotations/instances_train2017.json").read_text())
    assert record.data.train.objects == len(annotations["annotations"])
    assert (record.checkpoint, record.checkpoint_sha256) == ("epoch_2.pth", sha256_of(whole / "epoch_2.pth"))
    weights = read_checkpoint(whole / "epoch_2.pth")["state_dict"]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    learnt = sum(tensor.numel() for name, tensor in weights.items() if not name.endswith(statistics))
    assert record.complexity.total_parameters == learnt
    assert record.environment.versions["mmdet"] == "3.3.0"
    assert record.times.started < record.times.updated
    assert 0 < record.times.evaluation_seconds < (record.times.updated - record.times.started).total_seconds()

    # What was logged, and what pycocotools says of the files.
    assert [evaluation.step for evaluation in record.evaluations] == [1, 2]
    for evaluation, line in zip(record.evaluations, logged(whole), strict=True):
        assert evaluation.metrics["AP"] == pytest.approx(100 * line["coco/bbox_mAP"], abs=1e-4)
    assert record.result.metrics == record.evaluations[-1].metrics
    evaluation = quietly_evaluated(record, whole)
    assert [-1 if value is None else value / 100 for value in record.result.metrics.values()] == pytest.approx(
        list(evaluation.stats), abs=1e-12
    )
    assert tuple(found.name for found in record.result.per_class) == record.data.classes
    for name in ("AP", "AP50"):
        of_classes = [found.metrics[name] for found in record.result.per_class]
        defined = [value for value in of_classes if value is not None]
        assert 0 < len(defined) < 80
        assert np.mean(defined) == pytest.approx(record.result.metrics[name], abs=1e-9)
    boxes = record.result.predictions[0]
    assert (boxes.kind, boxes.sha256) == ("coco_boxes", sha256_of(whole / boxes.path))

    # A test beside it leaves it alone, takes its word on the training, and measures the same.
    before = (whole / "run.json").read_bytes()
    assert run("test", RETINANET, whole / "epoch_2.pth", "--work-dir", whole, *words) == 0
    assert (whole / "run.json").read_bytes() == before
    assert sha256_of(whole / boxes.path) == boxes.sha256
    test = read_record(whole / "test.json")
    assert (test.origin, test.seed, test.protocol) == ("test", 3, record.protocol)
    assert test.result.metrics == record.result.metrics
    assert test.checkpoint_sha256 == record.checkpoint_sha256
    assert test.data.train is None
    assert test.config.sha256 == sha256_of(whole / test.config.file)
    assert test.times.training_seconds is None
    # Of a checkpoint that no record tells of, the training is unknown.
    assert run("test", RETINANET, whole / "epoch_1.pth", "--work-dir", tmp_path / "test", *words) == 0
    test = read_record(tmp_path / "test" / "run.json")
    assert (test.seed, test.protocol.learning_rate, test.protocol.data) == (None, None, None)
    assert test.protocol.test_pipeline == record.protocol.test_pipeline
    assert test.result.metrics == record.evaluations[0].metrics

    # A resumed run goes on with the record, as it stood when the checkpoint was written.
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    for name in ("epoch_1.pth", "run.json"):
        shutil.copy(whole / name, resumed)
    assert run("train", RETINANET, "--work-dir", resumed, "--resume", "--seed", 3, *words) == 0
    again = read_record(resumed / "run.json")
    assert again.evaluations == record.evaluations
    assert again.protocol == record.protocol
    assert again.times.started == record.times.started
    assert again.times.training_seconds > record.times.training_seconds
    assert again.times.evaluation_seconds > record.times.evaluation_seconds


def test_an_evaluation_without_a_checkpoint_names_none(
    run: Run, tiny_coco: Path, small_run: list[str], tmp_path: Path
) -> None:
    options = ["train_cfg.max_epochs=2", "default_hooks.checkpoint.save_begin=1", "default_hooks.checkpoint.interval=3"]
    options.append("default_hooks.checkpoint.save_last=False")
    assert run("train", RETINANET, "--data", tiny_coco, "--work-dir", tmp_path, *small_run, *options) == 0
    record = read_record(tmp_path / "run.json")
    assert [evaluation.step for evaluation in record.evaluations] == [1, 2]
    assert [file.name for file in tmp_path.glob("epoch_*.pth")] == ["epoch_1.pth"]
    assert (record.checkpoint, record.checkpoint_sha256) == (None, None)


def test_a_segmentor(run: Run, tiny_ade20k: Path, small_segmentation: list[str], tmp_path: Path) -> None:
    config = ROOT / "configs" / "semantic_fpn_fvnet_t_ade20k.py"
    options = [*small_segmentation, "auto_scale_lr.base_batch_size=4"]  # two forward passes a step
    stale = tmp_path / "predictions" / "val" / "of_another_data_set.png"
    stale.parent.mkdir(parents=True)
    stale.touch()
    assert run("train", config, "--data", tiny_ade20k, "--work-dir", tmp_path, *options) == 0
    record = read_record(tmp_path / "run.json")
    assert (record.task, record.framework, record.unit) == ("semantic_segmentation", "semantic_fpn", "step")
    assert (record.protocol.effective_batch, record.protocol.length) == (4, 8)
    assert [evaluation.step for evaluation in record.evaluations] == [4, 8]
    assert record.checkpoint == "iter_16.pth"
    for evaluation, line in zip(record.evaluations, logged(tmp_path), strict=True):
        for name in ("mIoU", "mAcc", "aAcc"):  # which mmseg rounds
            assert evaluation.metrics[name] == pytest.approx(line[name], abs=0.006)
    confusion = np.array(record.result.confusion)
    assert confusion.shape == (150, 150)
    assert 0 < confusion.sum() <= 4 * 64 * 64
    by_class = [found.metrics for found in record.result.per_class]
    assert np.mean([m["IoU"] for m in by_class if m["IoU"] is not None]) == pytest.approx(record.result.metrics["mIoU"])
    assert np.trace(confusion) / confusion.sum() * 100 == pytest.approx(record.result.metrics["aAcc"])
    maps = record.result.predictions[0]
    assert (maps.kind, maps.path, maps.sha256) == ("label_maps", "predictions/val", sha256_of(tmp_path / maps.path))
    assert not stale.exists()


def test_a_classifier(run: Run, tiny_classes: Path, tmp_path: Path) -> None:
    options = ["--cfg-options", "train_dataloader.batch_size=4", "train_dataloader.num_workers=0"]
    options += ["val_dataloader.num_workers=0", "val_dataloader.persistent_workers=False", "train_cfg.max_epochs=1"]
    options += ["train_dataloader.dataset.pipeline.1.scale=64", "param_scheduler.1.begin=0"]
    options += ["auto_scale_lr.base_batch_size=4"]
    config = ROOT / "configs" / "fvnet_t_in1k.py"
    assert run("train", config, "--data", tiny_classes, "--work-dir", tmp_path, *options) == 0
    record = read_record(tmp_path / "run.json")
    assert (record.task, record.framework) == ("classification", "classification")
    assert record.protocol.averaged
    line = logged(tmp_path)[-1]
    assert record.result.metrics["top-1"] == pytest.approx(line["accuracy/top1"], abs=1e-4)
    assert record.result.metrics["top-5"] == pytest.approx(line["accuracy/top5"], abs=1e-4)
    by_class = [found.metrics["top-1"] for found in record.result.per_class]  # one image each
    assert len(by_class) == 12
    assert np.mean(by_class) == pytest.approx(record.result.metrics["top-1"])
    assert record.result.predictions[0].kind == "classes"


def untrained(config: Path, file: Path, options: list[str]) -> Path:
    cfg = read_config(config, "config")
    apply_overrides(cfg, options[1:])
    torch.save({"state_dict": build_model(cfg.model).state_dict()}, file)
    return file


def test_a_config_with_a_test_set_of_its_own(run: Run, tiny_coco: Path, small_run: list[str], tmp_path: Path) -> None:
    data = Path(shutil.copytree(tiny_coco, tmp_path / "data"))
    document = json.loads((data / "annotations/instances_val2017.json").read_text())
    document["images"] = document["images"][:2]
    kept = {image["id"] for image in document["images"]}
    document["annotations"] = [each for each in document["annotations"] if each["image_id"] in kept]
    file = data / "annotations" / "instances_test.json"
    file.write_text(json.dumps(document))
    own = [f"{split}_dataloader.dataset.data_root={data}/" for split in ("train", "val", "test")]
    own += ["test_dataloader.dataset.ann_file=annotations/instances_test.json", f"test_evaluator.ann_file={file}"]
    weights = untrained(RETINANET, tmp_path / "weights.pth", [*small_run, *own])
    assert run("test", RETINANET, weights, "--work-dir", tmp_path / "work", *small_run, *own) == 0
    record = read_record(tmp_path / "work" / "run.json")
    assert (record.data.val.images, record.data.val.objects) == (2, len(document["annotations"]))
    assert record.result.predictions[0].ground_truth == str(file)


def test_a_segmentor_with_a_test_set_of_its_own(
    run: Run, tiny_ade20k: Path, small_segmentation: list[str], tmp_path: Path
) -> None:
    config, data = ROOT / "configs" / "semantic_fpn_fvnet_t_ade20k.py", tmp_path / "data"
    shutil.copytree(tiny_ade20k, data)
    for kind in ("images", "annotations"):
        (data / kind / "test").mkdir()
        for file in sorted((data / kind / "training").iterdir())[:3]:
            shutil.copy(file, data / kind / "test")
    own = [f"{split}_dataloader.dataset.data_root={data}" for split in ("train", "val", "test")]
    own += ["test_dataloader.dataset.data_prefix.img_path=images/test"]
    own += ["test_dataloader.dataset.data_prefix.seg_map_path=annotations/test"]
    weights = untrained(config, tmp_path / "weights.pth", [*small_segmentation, *own])
    assert run("test", config, weights, "--work-dir", tmp_path / "work", *small_segmentation, *own) == 0
    record = read_record(tmp_path / "work" / "run.json")
    assert record.data.val.images == 3
    assert record.result.predictions[0].ground_truth == str(data / "annotations" / "test")
    maps = {path.stem for path in (tmp_path / "work" / "predictions" / "test").iterdir()}
    assert maps == {path.stem for path in (data / "annotations" / "test").iterdir()}


def test_a_full_disk_ends_a_test_in_words(
    run: Run,
    tiny_coco: Path,
    small_run: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(record: RunRecord, file: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    monkeypatch.setattr(fvnet_mm.engine.record, "write_record", full)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    weights = untrained(RETINANET, tmp_path / "epoch_1.pth", small_run)
    assert run("test", RETINANET, weights, "--data", tiny_coco, "--work-dir", tmp_path, *small_run) == 2
    sentence = capsys.readouterr().err
    assert f"the disk of {tmp_path} is full" in sentence
    assert "make room first" in sentence  # a test has nothing to go on with
    assert "is full" in (tmp_path / "error.json").read_text()  # where torchrun looks


def test_a_killed_run_has_a_record(tiny_coco: Path, small_run: list[str], tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "tools" / "train.py", RETINANET, "--data", tiny_coco, "--work-dir", tmp_path]
    options = [*small_run, "train_cfg.max_epochs=1000", "train_dataloader.num_workers=0"]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
    ) as process:
        try:
            record = None
            while process.poll() is None and not (record and record.evaluations):
                time.sleep(0.05)
                if (tmp_path / "run.json").exists():
                    record = read_record(tmp_path / "run.json")  # valid at any moment
                    assert record.status == "running"
        finally:
            process.kill()
    record = read_record(tmp_path / "run.json")
    assert record.status == "running"
    assert record.result is not None
    assert record.checkpoint_sha256 is None


def test_a_broken_record_ends_no_run(
    run: Run, tiny_coco: Path, small_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A test leaves it where it is; a resumed training begins anew, says so, and makes up for what no record tells."""
    words = ["--data", tiny_coco, "--work-dir", tmp_path, *small_run]
    assert run("train", RETINANET, *words, "train_cfg.max_epochs=1") == 0
    half = (tmp_path / "run.json").read_bytes()[:500]
    (tmp_path / "run.json").write_bytes(half)
    assert run("test", RETINANET, tmp_path / "epoch_1.pth", *words) == 0
    assert (tmp_path / "run.json").read_bytes() == half
    assert read_record(tmp_path / "test.json").seed is None
    capsys.readouterr()
    assert run("train", RETINANET, "--resume", *words, "optim_wrapper.optimizer.lr=1e-3") == 0
    assert "run.json is not JSON" in capsys.readouterr().out
    assert (tmp_path / "unreadable_run.json").read_bytes() == half
    assert [evaluation.step for evaluation in read_record(tmp_path / "run.json").evaluations] == [1, 2]


def test_a_model_that_cannot_be_counted_ends_no_run(
    run: Run,
    tiny_coco: Path,
    small_run: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def count(cfg: object) -> None:
        raise AttributeError("'ModuleList' object has no attribute 'out_channels'")

    monkeypatch.setattr(fvnet_mm.engine.record, "describe_complexity", count)
    assert run("train", RETINANET, "--data", tiny_coco, "--work-dir", tmp_path, *small_run) == 0
    record = read_record(tmp_path / "run.json")
    assert record.complexity is None
    assert len(record.evaluations) == 2
    assert capsys.readouterr().out.count("as the model resists: 'ModuleList' object has no") == 1


def test_what_a_run_was_fine_tuned_from(run: Run, tiny_coco: Path, small_run: list[str], tmp_path: Path) -> None:
    words = ["--data", tiny_coco, *small_run, "train_cfg.max_epochs=1"]
    assert run("train", RETINANET, "--work-dir", tmp_path / "first", *words) == 0
    checkpoint = tmp_path / "first" / "epoch_1.pth"
    assert run("train", RETINANET, "--work-dir", tmp_path / "whole", *words, f"load_from={checkpoint}") == 0
    record = read_record(tmp_path / "whole" / "run.json")
    assert record.protocol.pretraining == "fine-tuned"
    (weights,) = record.weights
    assert (weights.part, weights.source, weights.sha256) == ("", str(checkpoint), sha256_of(checkpoint))
    assert weights.share == 1
    neck = dict(type="Pretrained", checkpoint=checkpoint, prefix="neck")
    options = [f"model.neck.init_cfg.{key}={value}" for key, value in neck.items()]
    assert run("train", RETINANET, "--work-dir", tmp_path / "neck", *words, *options) == 0
    record = read_record(tmp_path / "neck" / "run.json")
    assert record.protocol.pretraining == "fine-tuned"
    assert [(weights.part, weights.share) for weights in record.weights] == [("neck", 1)]
    both = [*options, f"load_from={checkpoint}"]
    for resume in ((), ("--resume",)):  # the second time it is the same config
        assert run("train", RETINANET, *resume, "--work-dir", tmp_path / "both", *words, *both) == 0


STORED = ROOT / "tests/report/leaderboard/records/retinanet_fvnet_t_seed0/run.json"


def resumed(earlier: RunRecord, **changes: object) -> tuple[RunRecord, list[str]]:
    """The record of a run that goes on under a protocol, or with a trunk, that is another in this; and the warnings."""
    protocol = earlier.protocol.model_copy(update={key: changes[key] for key in changes if key != "backbone"})
    now = earlier.model_copy(update=dict(protocol=protocol, backbone=changes.get("backbone", earlier.backbone)))
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(earlier_record, "print_log", lambda sentence, *_: told.append(sentence))
        return now.model_copy(update=dict(protocol=earlier_record.continued_protocol(earlier, now))), told


def test_a_run_of_two_protocols_is_of_neither() -> None:
    """Also after it was resumed once more, as it is now or as it was before."""
    began = read_record(STORED)
    rate, schedule = began.protocol.learning_rate, began.protocol.schedule
    mixed, (warning,) = resumed(began, learning_rate=1e-5)
    assert began.protocol.differences(mixed.protocol) == {"learning_rate": (rate, None)}
    assert warning.endswith(f"learning_rate {rate} then and 1e-05 now")
    for now in (1e-5, rate):
        assert resumed(mixed, learning_rate=now) == (mixed, [])
    twice, _ = resumed(mixed, learning_rate=rate, schedule="constant")
    assert began.protocol.differences(twice.protocol) == {"learning_rate": (rate, None), "schedule": (schedule, None)}
    assert resumed(began, pretraining="fine-tuned") == (began, [])  # with which it began is what counts


def test_a_test_knows_no_more_than_the_run_of_two_protocols() -> None:
    began = read_record(STORED)
    whole = earlier_record.inherited_fields(began, began.data)
    assert whole["learning_rate"] == began.protocol.learning_rate
    assert whole["data"] is not None
    assert "model" not in whole  # the test's own
    mixed, _ = resumed(began, learning_rate=1e-5, data="0" * 12, model="other losses")
    test = earlier_record.inherited_fields(mixed, mixed.data)
    assert test == whole | dict(learning_rate=None, data=None, model=None)


def test_a_run_of_two_trunks_is_no_seed_of_either() -> None:
    began = read_record(STORED)
    old = began.backbone.model_copy(update=dict(source_sha256="a" * 64))
    for name, change in (
        ("backbone FVNet then and FVNet now", dict(arguments={**old.arguments, "drop_path_rate": 0.5})),
        ("code of the backbone aaaaaaaa then and bbbbbbbb now", dict(source_sha256="b" * 64)),
    ):
        new = old.model_copy(update=change)
        mixed, (warning,) = resumed(began.model_copy(update=dict(backbone=old)), backbone=new)
        assert warning.endswith(name.replace("FVNet", old.name))
        assert began.protocol.differences(mixed.protocol) == {"pretraining": (began.protocol.pretraining, None)}
        assert mixed.backbone == new
        assert resumed(mixed) == (mixed, [])
        assert row_id(mixed) != row_id(began.model_copy(update=dict(backbone=new)))


def test_a_norm_that_other_devices_synchronise_is_no_other_trunk() -> None:
    began = read_record(STORED)
    one, several = (
        began.backbone.model_copy(update=dict(arguments=dict(norm_cfg=dict(type=kind)))) for kind in ("BN", "SyncBN")
    )
    record, told = resumed(began.model_copy(update=dict(backbone=one)), backbone=several)
    assert (record.protocol, told) == (began.protocol, [])


def test_a_resumed_trainings_time_is_added_to(monkeypatch: pytest.MonkeyPatch) -> None:
    record = read_record(STORED)
    hook = fvnet_mm.engine.record.RecordHook(None, "predictions")
    hook._record, hook._training = record, True
    for now in (2.0, 5.0):
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        hook.before_val_epoch(None)
    assert hook._record.times.training_seconds == record.times.training_seconds + 5
