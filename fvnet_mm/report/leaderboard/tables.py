"""The leaderboard of some folders: records to rows, rows to tables, one for each protocol."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import fvnet_mm
from fvnet_mm.records import Protocol, RunRecord
from fvnet_mm.report.leaderboard.collecting import FoundBenchmark, FoundRun, collect
from fvnet_mm.report.leaderboard.model import Leaderboard, Row, Table
from fvnet_mm.report.leaderboard.names import (
    FRAMEWORKS,
    MAIN_METRICS,
    PRETRAINING,
    benchmark_of,
    data_key,
    data_name,
    in_order,
    length_in_words,
    pipelines,
    reads_part,
)
from fvnet_mm.report.leaderboard.published_rows import published_rows
from fvnet_mm.report.leaderboard.ranking import is_ranked
from fvnet_mm.report.leaderboard.rows import group_runs, is_mixed, make_row, tell_apart
from fvnet_mm.report.leaderboard.speeds import with_speeds
from fvnet_mm.report.leaderboard.versions import version_problems
from fvnet_mm.report.published import PublishedResult, read_published

_LONGEST_DIFFERENCE = 40
"""Characters of a field of the protocol that a title may quote."""


def build_leaderboard(folders: Sequence[Path], published: bool = True, verify: bool = False) -> Leaderboard:
    """Tabulates the run records below some folders, with the speeds of the benchmarks there.

    Args:
        folders: Work dirs, or folders that hold them.
        published: Whether published results stand beside the rows that are measured on the same data set.
        verify: Read the predictions beside the records whole, instead of looking at their beginning.

    Returns:
        Tables of rows under one protocol each; equal input gives an equal leaderboard, wherever the folders lie.

    Raises:
        UserError: A folder does not exist, or there is no record in any of them.
    """
    with _without_garbage_collection():
        collection = collect(folders, verify)
        groups, conflicts = group_runs(collection.runs)
        by_table: dict[tuple[str, str, str, str], dict[str, list[FoundRun]]] = defaultdict(dict)
        for name, runs in groups.items():
            first = runs[0].record
            alone = name if is_mixed(first) else ""
            by_table[first.protocol.fingerprint, first.framework, data_key(first), alone][name] = runs
        of_versions = version_problems([runs[0].record for runs in groups.values()], collection.benchmarks)
        results = read_published() if published else []
        tables = [
            _table(framework, rows, results, collection.benchmarks) for (_, framework, *_), rows in by_table.items()
        ]
    return Leaderboard(
        suite_version=fvnet_mm.__version__,
        tables=_titled(sorted(tables, key=_place)),
        problems=tuple(sorted((*collection.problems, *itertools.chain(*conflicts.values()), *of_versions))),
    )


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Spares the search for cycles: records have none, and looking at all of them again and again doubles the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _table(
    framework: str,
    groups: dict[str, list[FoundRun]],
    results: list[PublishedResult],
    benchmarks: Sequence[FoundBenchmark],
) -> Table:
    records = {name: runs[0].record for name, runs in groups.items()}
    first = next(iter(records.values()))
    data = data_name(first)
    main_metric = MAIN_METRICS[first.task]
    rows = tell_apart([make_row(name, runs) for name, runs in groups.items()], records)
    rows, left_out = with_speeds(_with_images_of_norms(rows, groups), records, benchmarks)
    others = published_rows(results, framework, benchmark_of(first), first.protocol, main_metric)
    return Table(
        title=_title(framework, data, first.protocol),
        framework=framework,
        data=data,
        data_digest=_digest(data_key(first)) if first.protocol.data is None else None,
        run_digest=_digest(rows[0].id) if is_mixed(first) else None,
        main_metric=main_metric,
        metric_names=in_order({main_metric, *(name for row in (*rows, *others) for name in row.metrics)}),
        protocol=first.protocol,
        images=_images(records.values()),
        speeds_left_out=left_out,
        rows=tuple(sorted(rows, key=lambda row: _order(row, main_metric))),
        published=others,
    )


def _digest(text: str) -> str:
    """What stands for a name that may be any text, in names of files and references."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _with_images_of_norms(rows: Sequence[Row], groups: dict[str, list[FoundRun]]) -> tuple[Row, ...]:
    """Rows that say over how many images their batch norms took statistics, where the table's runs differ in it.

    The protocol does not tell 16 images in one forward pass from 16 passes of one, and batch norm does. It is as given
    where the trunk's norms keep their statistics.
    """
    environments = {name: [run.record.environment for run in runs] for name, runs in groups.items()}
    images = {
        name: sorted({each.images_per_device for each in of_row if each.images_per_device is not None})
        for name, of_row in environments.items()
    }
    kept = all(run.record.protocol.norm_eval for runs in groups.values() for run in runs)
    if kept or len({count for counts in images.values() for count in counts}) < 2:
        return tuple(rows)
    return tuple(_with_note(row, images[row.id]) for row in rows)


def _with_note(row: Row, images: Sequence[int]) -> Row:
    if not images:
        return row
    counted = f"{' or '.join(map(str, images))} image{'s' * (images[-1] > 1)} at once in batch norm"
    return row.model_copy(update={"note": "; ".join(filter(None, (row.note, counted)))})


def _images(records: Iterable[RunRecord]) -> tuple[int | None, int | None]:
    """Numbers of training and validation images; None where no record says, where some are left out, or of several."""
    counts: tuple[set[int], set[int]] = (set(), set())
    for record in records:
        splits = (record.data.train, record.data.val) if record.data is not None else (None, None)
        for count, split, pipeline in zip(counts, splits, pipelines(record.protocol), strict=True):
            if split is not None and not reads_part(pipeline):
                count.add(split.images)
    return tuple(count.pop() if len(count) == 1 else None for count in counts)


def _order(row: Row, main_metric: str) -> tuple[bool, float, str]:
    """Ranked rows first, the best of them first."""
    metric = row.metrics.get(main_metric)
    return not is_ranked(row, main_metric), -metric.mean if metric is not None else 0.0, row.id


def _place(table: Table) -> tuple[object, ...]:
    """Where a table stands: by framework, data set, pretraining and length."""
    frameworks, pretraining = list(FRAMEWORKS), list(PRETRAINING)
    own, weights = table.framework in frameworks, table.protocol.pretraining
    return (
        frameworks.index(table.framework) if own else len(frameworks),
        table.framework,
        table.data,
        pretraining.index(weights) if weights in pretraining else len(pretraining),
        table.protocol.length_unit or "",
        table.protocol.length or 0,
        table.protocol.fingerprint,
    )


def _title(framework: str, data: str, protocol: Protocol) -> str:
    parts = [
        f"{FRAMEWORKS.get(framework, framework)} on {data}",
        length_in_words(protocol),
        PRETRAINING.get(protocol.pretraining or "", "pretraining unknown"),
    ]
    return ", ".join(part for part in parts if part)


def _titled(tables: Sequence[Table]) -> tuple[Table, ...]:
    """Tables with titles of their own: where two would have the same, what sets them apart is added.

    That is of their protocols, of their data where one protocol, which does not know them, is of several, and of the
    run that is in no other table.
    """
    titles = Counter(table.title for table in tables)
    return tuple(
        table.model_copy(update={"title": f"{table.title} ({_difference(table, tables)})"})
        if titles[table.title] > 1
        else table
        for table in tables
    )


def _difference(table: Table, tables: Sequence[Table]) -> str:
    twins = [other for other in tables if other.title == table.title and other is not table]
    fields = {name: values for other in twins for name, values in table.protocol.differences(other.protocol).items()}
    told = [
        f"{name.replace('_', ' ')} {value if len(str(value)) <= _LONGEST_DIFFERENCE else 'of its own'}"
        for name, (value, _) in fields.items()
        if name != "data" and value is not None
    ]
    told.append(f"protocol {table.protocol.fingerprint}")
    if table.data_digest and any(other.protocol.fingerprint == table.protocol.fingerprint for other in twins):
        told.append(f"data {table.data_digest}")
    if table.run_digest:
        told.append(f"run {table.run_digest}")
    return ", ".join(told)
