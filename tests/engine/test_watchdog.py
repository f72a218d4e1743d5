"""When a process ends a training that stands still; whole runs that hang are in the drills."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import torch.distributed as dist

from fvnet_mm.engine import watchdog

Told = Callable[[float, str | None, bool], None]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a process says that would end."""
    said: list[str] = []
    monkeypatch.setattr(watchdog, "_end", said.append)
    return said


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """Says for some seconds where a second process is, and whether it waits; this one is at iteration 2."""
    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=30))
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    monkeypatch.setattr(watchdog, "get_world_size", lambda: 2)
    monkeypatch.setattr(watchdog, "get_rank", lambda: 1)
    watching = watchdog.Watchdog(1.0)
    place = dist.PrefixStore("fvnet_mm/watchdog/0", store)

    def tell(seconds: float, at: str | None, waits: bool) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            place.set("0", json.dumps(dict(now=time.time(), place=at, waits=waits, lines="a.py:1 b")))
            time.sleep(0.05)

    tell(0.3, None, False)
    watching.place, watching.since = "iteration 2", time.monotonic()
    yield tell
    watching.ended.set()
    watching.thread.join()


def test_a_process_that_saves_is_waited_for(other: Told, ends: list[str]) -> None:
    other(2.5, None, False)
    other(0.5, "iteration 2", True)  # what was waited for does not count once it is there
    assert not ends
    other(2.0, "iteration 2", False)
    assert "rank 0" in ends[0]
    assert "have waited at iteration 2" in ends[0]


def test_a_process_that_waits_itself_is_not_waited_for(other: Told, ends: list[str]) -> None:
    """Between an evaluation's last batch and its metrics, which all processes' outputs are gathered for."""
    other(2.5, None, True)
    assert ends
