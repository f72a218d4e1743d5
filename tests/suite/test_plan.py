"""Which measurements a plan takes from an earlier one."""

from collections.abc import Callable

import pytest

from fvnet_mm.suite import plan
from fvnet_mm.suite.facts import facts_of
from fvnet_mm.suite.reading import Suite


def test_another_processor_is_measured_anew(read: Callable[[str], Suite], monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo}]").jobs
    facts = facts_of(job, {})

    def key(processor: str, cores: int) -> str:
        monkeypatch.setattr(plan, "processor_name", lambda: processor)
        monkeypatch.setattr(plan.os, "cpu_count", lambda: cores)
        return plan._digest(facts, steps=2, threads=None, on_gpu=False)

    assert key("A", 8) == key("A", 8)
    assert len({key("A", 8), key("B", 8), key("A", 16)}) == 3
