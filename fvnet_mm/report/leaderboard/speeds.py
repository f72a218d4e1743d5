"""Latency and throughput of a table's rows, from benchmarks: all of one set of conditions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from fvnet_mm.records import RunRecord
from fvnet_mm.records.benchmark import BenchmarkRecord, Conditions, Measurement, Size, What
from fvnet_mm.report.leaderboard.collecting import FoundBenchmark
from fvnet_mm.report.leaderboard.model import Row
from fvnet_mm.report.leaderboard.versions import is_of

_PARTS: tuple[What, ...] = ("trunk", "model", "predict")
"""The later, the better: a prediction is what a user waits for."""


class _Setting(NamedTuple):
    """What speeds of one table have in common."""

    conditions: Conditions
    part: What
    size: Size


def with_speeds(
    rows: Sequence[Row], records: Mapping[str, RunRecord], benchmarks: Sequence[FoundBenchmark]
) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Rows with the speeds of one setting (part of the model, image, conditions), and what is left out, in words.

    It is the setting in which most rows were measured; of several that of the larger part of the model, then the
    newest. Of several benchmarks the newest counts for each batch. Latency is the median at batch 1, throughput that of
    the greatest batch that all these rows have. Where no benchmark has any of the rows they are returned as they are.

    Args:
        rows: Of one table.
        records: A record behind each of them, by the row's id.
        benchmarks: All that were found; training steps are no speeds of a row.
    """
    found: dict[_Setting, dict[str, dict[int, Measurement]]] = defaultdict(dict)
    sources: dict[_Setting, dict[str, None]] = defaultdict(dict)
    updated: dict[_Setting, datetime] = {}
    inference = [benchmark for benchmark in benchmarks if not benchmark.record.conditions.training]
    for benchmark in sorted(inference, key=lambda benchmark: benchmark.record.updated):
        for row in rows:
            for setting, entries in _measured(benchmark.record, records[row.id]).items():
                found[setting].setdefault(row.id, {}).update(entries)
                sources[setting][benchmark.name] = None
                updated[setting] = benchmark.record.updated
    if not found:
        return tuple(rows), ()
    chosen = max(found, key=lambda setting: (len(found[setting]), _PARTS.index(setting.part), updated[setting]))
    left_out = [f"{_words(setting)} ({', '.join(names)})" for setting, names in sources.items() if setting != chosen]
    return tuple(_with_speed(row, chosen, found[chosen]) for row in rows), tuple(sorted(left_out))


def _measured(benchmark: BenchmarkRecord, run: RunRecord) -> dict[_Setting, dict[int, Measurement]]:
    """What a benchmark has of a run's model, by batch."""
    names = {model.name for model in benchmark.models if is_of(model, run)}
    entries: dict[_Setting, dict[int, Measurement]] = defaultdict(dict)
    for entry in benchmark.measurements:
        if entry.model in names:
            setting = _Setting(benchmark.conditions, entry.case.what, entry.case.size)
            entries[setting][entry.case.batch] = entry
    return entries


def _with_speed(row: Row, setting: _Setting, found: Mapping[str, Mapping[int, Measurement]]) -> Row:
    batches = set.intersection(*map(set, found.values()))
    times = found.get(row.id, {})
    greatest = max(batches, default=None)
    latency = times[1].times.p50_ms if 1 in times else None
    throughput = times[greatest].throughput if greatest in times else None
    note = _words(setting) + (f", throughput at batch {greatest}" if greatest is not None else "")
    return row.model_copy(update=dict(latency_ms=latency, throughput=throughput, speed_note=note if times else None))


def _words(setting: _Setting) -> str:
    return f"{setting.part} at {setting.size[0]}x{setting.size[1]}, {setting.conditions.summary}"
