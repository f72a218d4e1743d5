"""Which measurements a plan takes from an earlier one, and what it adds up."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from fvnet_mm.errors import UserError
from fvnet_mm.suite import plan
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


def test_sums_are_of_all_seeds(read: Callable[[str], Suite]) -> None:
    """An hour of training and a gigabyte each, of two seeds; another training could not be timed."""
    jobs = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo, seeds: [0, 1]}]").jobs
    facts = Facts(
        task="Detection",
        framework="retinanet",
        assumed=None,
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
    timing = Timing(
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
    entries = [plan.Entry(jobs, facts, timing), plan.Entry(jobs[:1], note="cannot be planned")]
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

    def some(job: Job, counted: dict[tuple[str, str], tuple[int, int]]) -> Facts:
        if "fvnet_t" in job.name:
            raise UserError("its images are gone.")
        return facts_of(job, counted)

    monkeypatch.setattr(plan, "facts_of", some)
    assert not plan.show_plan(suite, suite.jobs, None, None, timing=False)
    printed = capsys.readouterr()
    assert "2 jobs, 2 different trainings" in printed.out
    assert printed.err == "error: 1 of 2 trainings cannot be planned; the table's notes say why.\n"
    assert plan.show_plan(suite, suite.jobs[:1], None, None, timing=False)
