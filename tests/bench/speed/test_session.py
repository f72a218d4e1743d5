"""Plans from command lines, and what a run records, with workers whose times and memory are invented."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fvnet_mm.bench.speed import session
from fvnet_mm.bench.speed.session import LARGEST, MOST_IMAGES, Plan, plan_of, run_benchmark
from fvnet_mm.bench.speed.subjects import Subject
from fvnet_mm.bench.speed.worker import OutOfMemory
from fvnet_mm.engine.run_facts import describe_environment
from fvnet_mm.errors import UserError
from fvnet_mm.records import Backbone
from fvnet_mm.records.benchmark import Case, Conditions, Model
from fvnet_mm.records.benchmark_file import read_benchmark

CONFIG = str(Path(__file__).parents[3] / "configs" / "retinanet_fvnet_t_coco.py")


def arguments(*models: str, **changes: object) -> argparse.Namespace:
    given = dict(
        backbone=[],
        baseline=None,
        what=None,
        training=False,
        sizes=None,
        batch=None,
        device="cpu",
        precision="float32",
        tf32=False,
        channels_last=False,
        compile=False,
        fuse=False,
        threads=None,
        isolate=False,
        rounds=6,
        turn_seconds=0.0,
    )
    return argparse.Namespace(models=list(models), **(given | changes))


def test_plan_of_trunks() -> None:
    plan = plan_of(arguments("fvnet_t", "timm:resnet18", sizes=[(64, 96)], batch=[2], threads=torch.get_num_threads()))
    assert [subject.name for subject in plan.subjects] == ["fvnet_t", "timm:resnet18"]
    assert plan.baseline == "fvnet_t"
    assert (plan.parts, plan.sizes, plan.batches) == (("trunk",), ((64, 96),), (2,))
    assert plan.subjects[0].backbone == Backbone(
        name="fvnet_t", type="FVNet", arguments={"arch": "t", "out_indices": [0, 1, 2, 3]}
    )
    assert plan.conditions.threads == torch.get_num_threads()
    assert (plan.conditions.fused, plan.conditions.tf32, plan.conditions.driver) == (False, False, None)


def test_plan_of_a_config_with_other_trunks() -> None:
    plan = plan_of(arguments(CONFIG, "fvnet_s", backbone=["mobilenet_v2"], baseline="fvnet_s"))
    names = ["retinanet_fvnet_t_coco", "retinanet_mobilenet_v2_coco", "fvnet_s"]
    assert [subject.name for subject in plan.subjects] == names
    assert [subject.whole for subject in plan.subjects] == [True, True, False]
    assert plan.parts == ("trunk", "model", "predict")
    assert plan_of(arguments(CONFIG, training=True)).parts == ("trunk", "model")
    assert plan_of(arguments(CONFIG, what=["predict", "model", "predict"])).parts == ("model", "predict")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (arguments("fvnet_x"), "there is no backbone 'fvnet_x'"),
        (arguments("timm:nothing"), "nothing"),
        (arguments("nowhere.py"), "nowhere.py does not exist"),
        (arguments("fvnet_t", "fvnet_t"), "fvnet_t is given twice"),
        (arguments("fvnet_t", backbone=["fvnet_s"]), "no config is given"),
        (arguments("fvnet_t", baseline="fvnet_s"), "--baseline fvnet_s is not among the models of this run: fvnet_t"),
        (arguments("fvnet_t", what=["predict"]), "--what predict needs a config"),
        (arguments(CONFIG, what=["predict"], training=True), "--what predict is no part of training"),
        (arguments("fvnet_t", fuse=True, training=True), "leave out --fuse or --training"),
        (arguments("fvnet_t", batch=[LARGEST]), "--batch N"),
    ],
)
def test_what_does_not_exist_or_go_together(given: argparse.Namespace, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        plan_of(given)


@pytest.mark.parametrize(("device", "check"), [("cuda", "cuda.is_available"), ("mps", "backends.mps.is_available")])
def test_device_that_is_not_there(device: str, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"torch.{check}", lambda: False)
    with pytest.raises(UserError, match=f"--device {device} needs .* torch sees none; use --device cpu"):
        plan_of(arguments("fvnet_t", device=device))


class FakeWorker:
    """A pass of so many seconds for an image, and room for so many images."""

    seconds: dict[str, float]
    room: dict[str, int]

    def __init__(self, subject: Subject, conditions: Conditions, sizes: object) -> None:
        self.model = Model(
            name=subject.name,
            source=subject.source,
            whole=subject.whole,
            backbone=subject.backbone,
            parameters={"backbone": 1},
            fused="not fused",
        )
        self.case: Case | None = None

    def prepare(self, case: Case) -> float:
        if case.batch > self.room.get(self.model.name, MOST_IMAGES):
            raise OutOfMemory
        if case.size == (999, 999):
            raise UserError("it does not run on such images")
        self.case = case
        return self.seconds[self.model.name] * case.batch

    def turn(self, passes: int) -> list[float]:
        return [self.seconds[self.model.name] * self.case.batch] * passes

    def peak_memory(self) -> int | None:
        return None

    def close(self) -> None:
        pass


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> type[FakeWorker]:
    """Takes the place of real ones."""
    FakeWorker.seconds, FakeWorker.room = {"a": 0.03, "b": 0.02, "whole": 0.1}, {}
    monkeypatch.setattr(session, "LocalWorker", FakeWorker)
    monkeypatch.setattr(session, "set_up", lambda conditions: None)
    monkeypatch.setattr(session, "bandwidth", lambda backend: 1e9)
    return FakeWorker


@pytest.fixture
def plan(conditions: Conditions) -> Plan:
    def subject(name: str, config: Path | None = None) -> Subject:
        return Subject(name, name, config, name, Backbone(name=name))

    return Plan(
        subjects=(subject("a"), subject("b"), subject("whole", Path(CONFIG))),
        baseline="a",
        parts=("trunk", "predict"),
        sizes=((64, 64), (64, 96)),
        batches=(1, 8),
        rounds=6,
        turn_seconds=0.1,
        conditions=conditions,
    )


Progress = Callable[[str], None]


def test_record_of_a_run(workers: type[FakeWorker], plan: Plan, tmp_path: Path) -> None:
    shown: list[str] = []
    record = run_benchmark(plan, tmp_path / "benchmark.json", shown.append)
    assert record == read_benchmark(tmp_path / "benchmark.json")
    assert record.finished
    environment = describe_environment()
    assert (record.git_commit, record.git_dirty) == (environment.git_commit, environment.git_dirty)
    assert len(record.cases) == 8
    assert [entry.model for entry in record.of_case(Case(what="trunk", size=(64, 96), batch=8))] == ["a", "b", "whole"]
    first, second, _ = record.measurements[:3]
    assert (first.times.n, second.times.n) == (4 * 6, 5 * 6)  # of 0.03 and 0.02 seconds in turns of 0.1
    assert (second.ratio.value, second.ratio.low, second.ratio.high) == pytest.approx((1.5, 1.5, 1.5))
    assert second.throughput == pytest.approx(50)
    assert second.round_ms == pytest.approx((20.0,) * 6)
    (alone,) = record.of_case(Case(what="predict", size=(64, 64), batch=1))
    assert (alone.model, alone.ratio) == ("whole", None)
    assert record.notes == ()
    assert "building and counting b" in shown
    assert shown[-1] == ""


def test_ratios_are_to_the_baseline_wherever_it_stands(workers: type[FakeWorker], plan: Plan, tmp_path: Path) -> None:
    plan = replace(plan, baseline="b", parts=("trunk",), sizes=((64, 64),), batches=(1,))
    record = run_benchmark(plan, tmp_path / "benchmark.json", lambda text: None)
    assert [entry.ratio.value for entry in record.measurements] == pytest.approx([2 / 3, 1, 0.2])


def test_bandwidth_of_a_cpu_is_the_greatest_seen(
    workers: type[FakeWorker], plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = iter([1e9, 3e9, 2e9])
    monkeypatch.setattr(session, "bandwidth", lambda backend: next(seen))
    plan = replace(plan, parts=("trunk",), sizes=((64, 64),))
    assert run_benchmark(plan, tmp_path / "benchmark.json", lambda text: None).bandwidth == 3e9


def test_batch_is_halved_for_all_and_said(workers: type[FakeWorker], plan: Plan, tmp_path: Path) -> None:
    workers.room = {"b": 3}
    plan = replace(plan, parts=("trunk",), batches=(2, 8))
    record = run_benchmark(plan, tmp_path / "benchmark.json", lambda text: None)
    assert [case.batch for case in record.cases] == [2, 2]  # 8, 4 and then what is there already
    assert record.notes == tuple(
        f"trunk at {size}: a batch of 8 did not fit into the memory with b, so that it was halved to 2 for all."
        for size in ("64x64", "64x96")
    )


def test_largest_batch_that_fits(workers: type[FakeWorker], plan: Plan, tmp_path: Path) -> None:
    workers.room = {"a": 100, "b": 70}
    plan = replace(plan, parts=("trunk",), sizes=((64, 64),), batches=(LARGEST,), turn_seconds=0)
    record = run_benchmark(plan, tmp_path / "benchmark.json", lambda text: None)
    assert [case.batch for case in record.cases] == [64]
    assert record.notes == ()


def test_image_that_does_not_fit(workers: type[FakeWorker], plan: Plan, tmp_path: Path) -> None:
    workers.room = {"b": 0}
    with pytest.raises(UserError, match="b: not even one image of 64x64 fits"):
        run_benchmark(plan, tmp_path / "benchmark.json", lambda text: None)


def test_what_was_measured_before_a_mistake_is_kept(workers: type[FakeWorker], plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="such images"):
        run_benchmark(replace(plan, sizes=((64, 64), (999, 999))), tmp_path / "benchmark.json", lambda text: None)
    record = read_benchmark(tmp_path / "benchmark.json")
    assert not record.finished
    assert [case.size for case in record.cases] == [(64, 64), (64, 64)]
