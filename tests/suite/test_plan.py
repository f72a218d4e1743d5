"""Which measurements a plan takes from an earlier one, and what it adds up."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from fvnet_mm.cli import tool_parser
from fvnet_mm.data.shapes import write_coco_shapes
from fvnet_mm.engine.config import load_config
from fvnet_mm.engine.data_source import repetitions, used_images
from fvnet_mm.engine.tasks.base import DataSplit
from fvnet_mm.errors import UserError
from fvnet_mm.places import ROOT
from fvnet_mm.suite import plan, timing
from fvnet_mm.suite.facts import Facts, facts_of
from fvnet_mm.suite.jobs import Job
from fvnet_mm.suite.reading import Suite
from fvnet_mm.suite.timing import Timing


def test_what_a_measurement_depends_on(read: Callable[[str], Suite], monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo}]").jobs
    facts = facts_of(job, {})

    def key(
        processor: str = "A", cores: int = 8, torch: str = "2.6.0", digest: str = "a", steps: int = 2, threads: int = 1
    ) -> str:
        monkeypatch.setattr(plan, "processor_name", lambda: processor)
        monkeypatch.setattr(plan.os, "cpu_count", lambda: cores)
        monkeypatch.setattr(plan.torch, "__version__", torch)
        return plan._digest(replace(facts, digest=digest), steps, threads, on_gpu=False)

    assert key() == key()
    others = [
        dict(processor="B"),
        dict(cores=16),
        dict(torch="2.7.0"),
        dict(digest="b"),
        dict(steps=3),
        dict(threads=2),
    ]
    assert len({key(), *(key(**other) for other in others)}) == 1 + len(others)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configs of the trainings that are to be timed; none of them takes place."""
    configs: list[Config] = []

    def train(words: list[str], **_: object) -> SimpleNamespace:
        arguments, _ = tool_parser("").parse_known_args(words[2:])
        configs.append(load_config(arguments))
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(timing.subprocess, "run", train)
    return configs


@pytest.mark.parametrize("data", ["demo", "{}"])
@pytest.mark.parametrize(
    ("config", "data_set"),
    [
        ("retinanet_fvnet_t_coco", "train_dataloader.dataset"),
        ("retinanet_fvnet_s_shapes", "train_dataloader.dataset.dataset"),  # in memory
    ],
)
def test_as_many_images_are_timed_as_the_steps_need(
    config: str,
    data_set: str,
    data: str,
    read: Callable[[str], Suite],
    tmp_path: Path,
    trained: list[Config],
) -> None:
    """However few the job itself takes."""
    write_coco_shapes(tmp_path / "set", 3, 2, (64, 48))
    place = data.format(tmp_path / "set")
    (job,) = read(f"runs: [{{config: configs/{config}.py, data: {place}, cfg_options: [{data_set}.indices=1]}}]").jobs
    facts = facts_of(job, {})
    for batch, steps, images in [(4, 2, 12), *([(64, 99, 256)] if data == "demo" else [])]:
        with pytest.raises(UserError):  # of the training that does not take place
            timing.measure(job, replace(facts, batch=batch), steps, 1, False, 1)
        assert used_images(trained[-1], 1000) == images
        assert trained[-1].train_dataloader.dataset.get("indices") == (images if data_set.count(".") == 1 else None)


def test_a_set_that_is_repeated_is_timed_once(
    read: Callable[[str], Suite], tmp_path: Path, trained: list[Config]
) -> None:
    config = tmp_path / "mine.py"
    config.write_text(
        f"_base_ = {str(ROOT / 'configs/retinanet_fvnet_t_coco.py')!r}\n"
        "repeated = dict(_delete_=True, type='RepeatDataset', times=5, dataset={{_base_.train_dataloader.dataset}})\n"
        "train_dataloader = dict(dataset=repeated)\n"
    )
    root = write_coco_shapes(tmp_path / "set", 3, 2, (64, 48))
    (job,) = read(f"runs: [{{config: {config}, data: {root}}}]").jobs
    facts = facts_of(job, {})
    assert facts.trained_images == 5 * 12 * 3
    with pytest.raises(UserError):  # of the training that does not take place
        timing.measure(job, facts, 2, 1, False, 1)
    assert used_images(trained[-1], 1000) * repetitions(trained[-1]) == 3 * facts.batch


def test_a_demo_too_small_to_time(read: Callable[[str], Suite]) -> None:
    (job,) = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo}]").jobs
    facts = replace(facts_of(job, {}), batch=200)
    with pytest.raises(UserError, match="the demo's 256 images are 1 batches of 200, and steps are timed after 5"):
        timing.measure(job, facts, 20, 5, False, 1)


def test_sums_are_of_all_seeds(read: Callable[[str], Suite]) -> None:
    """An hour of training and a gigabyte each, of two seeds; another training could not be timed."""
    jobs = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo, seeds: [0, 1]}]").jobs
    facts = Facts(
        task="Detection",
        framework="retinanet",
        assumed=None,
        data_set="train_dataloader.dataset",
        repeated=(),
        set_images=150,
        by_epoch=True,
        trained_images=1800,
        evaluated_images=0,
        val_images=0,
        batch=2,
        val_batch=1,
        workers=1,
        checkpoints=1,
        digest="",
    )
    measured = Timing(
        device="x",
        threads=1,
        steps=1,
        warm_up=0,
        batch=2,
        peak_memory=None,
        train_seconds=1.5,
        load_seconds=0.5,
        test_seconds=1,
        test_load_seconds=1,
        checkpoint_bytes=10**9,
        prediction_bytes=0,
        other_bytes=0,
    )
    entries = [plan.Entry(jobs, facts, measured), plan.Entry(jobs[:1], note="cannot be planned")]
    lines = list(plan._sums(entries, [*jobs, jobs[0]], on_gpu=False))
    assert lines[:2] == [
        "3 jobs, 2 different trainings",
        "estimate for the 1 that were timed: 2.0 CPU-hours and 2.0 GB",
    ]
    assert list(plan._cells(entries[0], on_gpu=False))[1:] == ["2", "1.8", "1.5", "1.00", "2.0", "1.00", ""]
    few = plan.Entry(jobs, replace(facts, trained_images=48))
    assert next(itertools.islice(plan._cells(few, on_gpu=False), 2, None)) == "0.048"
    assert list(plan._cells(entries[1], on_gpu=False))[1:] == ["1", "-", "-", "-", "-", "-", "cannot be planned"]


def test_what_cannot_be_planned_is_told(
    read: Callable[[str], Suite], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [f"{{config: configs/retinanet_fvnet_{size}_coco.py, data: demo}}" for size in "st"]
    suite = read(f"runs: [{', '.join(runs)}]")

    def some(job: Job, counted: dict[tuple[str, str], tuple[DataSplit, int]]) -> Facts:
        if "fvnet_t" in job.name:
            raise UserError("its images are gone.")
        return facts_of(job, counted)

    monkeypatch.setattr(plan, "facts_of", some)
    assert not plan.show_plan(suite, suite.jobs, None, None, timing=False)
    printed = capsys.readouterr()
    assert "2 jobs, 2 different trainings" in printed.out
    assert printed.err == "error: 1 of 2 trainings cannot be planned; the table's notes say why.\n"
    assert plan.show_plan(suite, suite.jobs[:1], None, None, timing=False)
