"""Which measurements a plan takes from an earlier one, and what it adds up."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from fvnet_mm.suite import plan
from fvnet_mm.suite.facts import Facts, facts_of
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
    assert list(plan._cells(entries[1], on_gpu=False))[1:] == ["1", "-", "-", "-", "-", "-", "cannot be planned"]
