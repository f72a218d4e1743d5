"""Runs of one trunk under one protocol become one row: means and deviations over their seeds."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from fvnet_mm.records import RunRecord
from fvnet_mm.records.from_config import TEST_FIELDS
from fvnet_mm.report.leaderboard.collecting import FoundRun
from fvnet_mm.report.leaderboard.model import Row, Run, Statistic
from fvnet_mm.report.leaderboard.names import TRUNKS, data_key, in_order

CHANGES_TRUNK = "model.backbone."
"""How a word of ``--cfg-options`` begins that changes the trunk."""

INITIAL = f"{CHANGES_TRUNK}init_cfg"
"""How one begins that changes no more than what the trunk starts from, of which the protocol and the weights tell."""


def group_runs(runs: Iterable[FoundRun]) -> tuple[dict[str, list[FoundRun]], dict[str, list[str]]]:
    """Runs by the id of their row, and the problems met, by that id, too; a row may have problems and no runs.

    A run is of the row of its other seeds before its parameters are counted, too, if it can be of no second row.
    Of a row that has finished runs the others are left away: they are on their way, or were stopped and run again.
    Two runs that claim one seed are named, and neither is used, since nothing says which of them is meant; but a
    training goes before tests of its other checkpoints.
    """
    groups: dict[str, list[FoundRun]] = defaultdict(list)
    for run in runs:
        groups[row_id(run.record)].append(run)
    _join_started(groups)
    problems = {}
    for name, group in groups.items():
        finished = [run for run in group if run.record.status == "finished"]
        groups[name], problems[name] = _one_run_a_seed(finished or group)
    return {name: group for name, group in groups.items() if group}, problems


def _join_started(groups: dict[str, list[FoundRun]]) -> None:
    """Moves runs without an evaluation, before which no parameters are counted, to the only row that can be theirs."""
    started = [name for name, group in groups.items() if all(_has_just_started(run.record) for run in group)]
    others = {name: group[0].record for name, group in groups.items() if name not in started} if started else {}
    uncounted = {name: row_id(record.model_copy(update={"complexity": None})) for name, record in others.items()}
    for name in started:
        rows = [row for row, without in uncounted.items() if without == name]
        if len(rows) == 1:  # else of one of two versions of a trunk, or the first of its row
            groups[rows[0]] += groups.pop(name)


def _has_just_started(record: RunRecord) -> bool:
    return record.status == "running" and record.complexity is None and record.result is None


def row_id(record: RunRecord) -> str:
    """Name of the row that a run belongs to: its protocol, trunk, config and initial weights, whatever its seed.

    A run that went on under another protocol than it began is of no other's row.

    It is of letters, digits and ``_.-`` alone, so that tables and shells take it for one word; the digest tells rows
    apart whose other parts come out alike.
    """
    fields = [
        record.protocol.fingerprint,
        record.framework,
        data_key(record),
        record.backbone.name,
        record.backbone.type,
        json.dumps(record.backbone.arguments, sort_keys=True, default=str),
        trunk_parameters(record),  # else two versions of a trunk, built otherwise from the same arguments, were one
        record.config.name,
        record.origin == "imported",
        *([[weights.part, weights.sha256] for weights in record.weights]),
        # Of a trunk of the user's own, two versions of the code. Not of others, whose rows keep their names.
        *([record.backbone.source_sha256] if record.backbone.source_sha256 else []),
        # Nothing says that checkpoints from elsewhere are seeds of one training.
        *([record.checkpoint_sha256] if record.origin == "test" and record.seed is None else []),
        *([str(record.times.started)] if is_mixed(record) else []),
    ]
    digest = hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:8]
    return re.sub(r"[^\w.-]+", "_", f"{record.framework}-{record.backbone.name}-{digest}")


def is_mixed(record: RunRecord) -> bool:
    """Whether a run, or the one that wrote a tested checkpoint, went on under another protocol than it began.

    What changed is None in its protocol, whatever it was: two such protocols that come out alike need not be the same.
    Without a resumption all of a training is known, and nothing of it to the test of a checkpoint from elsewhere.
    """
    fields = record.protocol.model_dump(exclude={"fingerprint"})
    of_training = [value for name, value in fields.items() if name not in TEST_FIELDS]
    return record.origin != "imported" and None in fields.values() and any(value is not None for value in of_training)


def make_row(name: str, runs: Sequence[FoundRun]) -> Row:
    """The row of some runs, the one with the lowest seed first."""
    runs = sorted(runs, key=lambda run: (run.record.seed is None, run.record.seed or 0, run.name))
    records = [run.record for run in runs]
    first = records[0]
    complexity = next((record.complexity for record in records if record.complexity is not None), None)
    trainings = [record for record in records if record.origin != "test"]  # whose memory is another
    memory = [record.times.peak_memory for record in trainings if record.times.peak_memory is not None]
    parameters = macs = (None, None)
    if complexity is not None:
        parameters = _millions(complexity.parameters.get("backbone"), complexity.total_parameters, 1e6)
        macs = _millions(complexity.macs.get("backbone"), complexity.total_macs, 1e9)
    return Row(
        id=name,
        backbone=first.backbone.name,
        label=_label(first),
        provenance="imported" if first.origin == "imported" else "measured",
        metrics=_metrics(records),
        per_class=_per_class(records),
        parameters=parameters,
        macs=macs,
        macs_shape=complexity.shape if complexity is not None and complexity.macs else None,
        peak_memory_gb=max(memory) / 1e9 if memory else None,
        pretraining=first.protocol.pretraining,
        runs=tuple(_run(run) for run in runs),
        note=_progress(records),
    )


def _label(record: RunRecord) -> str:
    """The trunk's name, with what the command line changed in it."""
    name = TRUNKS.get(record.backbone.name, record.backbone.name)
    words = [word.removeprefix("--cfg-options=") for word in record.command]  # one word with its first value, or two
    words = [word for word in words if word.startswith(CHANGES_TRUNK) and not word.startswith(INITIAL)]
    changed = [word.removeprefix(CHANGES_TRUNK) for word in words]
    return f"{name} ({', '.join(changed)})" if changed else name


def tell_apart(rows: Sequence[Row], records: dict[str, RunRecord]) -> tuple[Row, ...]:
    """Rows with labels of their own: where two would have the same, what sets them apart is added.

    Args:
        rows: Of one table.
        records: A record behind each of them, by the row's id.
    """
    labels = Counter(row.label for row in rows)
    named = [
        row.model_copy(update={"label": f"{row.label} ({_distinction(row, rows, records)})"})
        if labels[row.label] > 1
        else row
        for row in rows
    ]
    labels = Counter(row.label for row in named)  # of three, two may have what sets them apart from the third
    return tuple(
        row.model_copy(update={"label": f"{row.label} {_digest(row)}"}) if labels[row.label] > 1 else row
        for row in named
    )


def _distinction(row: Row, rows: Sequence[Row], records: dict[str, RunRecord]) -> str:
    mine = records[row.id]
    others = [records[other.id] for other in rows if other.label == row.label and other.id != row.id]
    if all(other.config.name != mine.config.name for other in others):
        return mine.config.name
    arguments = mine.backbone.arguments
    differing = {
        name
        for other in others
        for name in set(arguments) | set(other.backbone.arguments)
        if arguments.get(name) != other.backbone.arguments.get(name)
    }
    if differing:
        return ", ".join(f"{name}={arguments.get(name, 'default')}" for name in sorted(differing))
    parameters = trunk_parameters(mine)
    if parameters is not None and all(trunk_parameters(other) != parameters for other in others):
        return f"{parameters / 1e6:.2f} M"
    code = mine.backbone.source_sha256
    if code is not None and all(other.backbone.source_sha256 != code for other in others):
        return f"code {code[:8]}"
    return _digest(row)


def _digest(row: Row) -> str:
    return row.id.rpartition("-")[2]


def trunk_parameters(record: RunRecord) -> int | None:
    """Of a run's trunk, as it is trained; None where nothing counted them."""
    return record.complexity.parameters.get("backbone") if record.complexity is not None else None


def _one_run_a_seed(runs: list[FoundRun]) -> tuple[list[FoundRun], list[str]]:
    claims: dict[int | None, list[FoundRun]] = defaultdict(list)
    for run in runs:
        claims[run.record.seed].append(run)
    kept, problems = [], []
    for seed, claimants in claims.items():
        trainings = [run for run in claimants if run.record.origin != "test"]
        if len(trainings) == 1:
            problems += [_other_checkpoint(run, trainings[0]) for run in claimants if run is not trainings[0]]
            claimants = trainings
        if seed is None or len(claimants) == 1:
            kept += claimants
            continue
        names = ", ".join(sorted(run.name for run in claimants))
        problems.append(
            f"{names}: {len(claimants)} records claim seed {seed} of {row_id(claimants[0].record)}; none of them is "
            "used until the others are moved away."
        )
    return kept, problems


def _other_checkpoint(test: FoundRun, training: FoundRun) -> str:
    checkpoint = Path(test.record.checkpoint or "unknown").name
    return (
        f"{test.name}: is of another checkpoint ({checkpoint}) of the config and seed of {training.name}, "
        "whose last weights are tabulated."
    )


def _metrics(records: Sequence[RunRecord]) -> dict[str, Statistic]:
    """Statistics of each metric over the runs in which it is defined."""
    values: dict[str, list[float]] = defaultdict(list)
    for record in records:
        for name, value in record.result.metrics.items() if record.result is not None else ():
            if value is not None:
                values[name].append(value)
    return {name: _statistic(values[name]) for name in in_order(set(values))}


def _statistic(values: Sequence[float]) -> Statistic:
    n = len(values)
    mean = math.fsum(values) / n
    # In floats: statistics.stdev is exact in fractions, far below what is kept, at a hundred times the cost.
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1)) if n > 1 else None
    return Statistic(mean=_rounded(mean), std=None if deviation is None else _rounded(deviation), n=n)


def _per_class(records: Sequence[RunRecord]) -> dict[str, dict[str, float | None]]:
    """Means over the runs; None where a metric is undefined in one of them."""
    results = [record.result for record in records if record.result is not None and record.result.per_class]
    classes = [{part.name: part.metrics for part in result.per_class} for result in results]
    names = dict.fromkeys(name for of_run in classes for name in of_run)
    return {name: _means([of_run.get(name, {}) for of_run in classes]) for name in names}


def _means(runs: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    values = {metric: [of_run.get(metric) for of_run in runs] for metric in dict.fromkeys(itertools.chain(*runs))}
    return {
        metric: None if None in found else _rounded(math.fsum(found) / len(found)) for metric, found in values.items()
    }


def _rounded(value: float) -> float:
    """Without the digits that are noise of the arithmetic, so that tables are the same wherever they are made."""
    return round(value, 6)


def _progress(records: Sequence[RunRecord]) -> str | None:
    """How far runs have come that are not finished."""
    waiting = [record for record in records if record.status == "running"]
    if not waiting:
        return None
    parts = []
    for record in waiting:
        whole = record.protocol.length if record.protocol.length_unit == record.unit else None
        length = f" of {whole}" if whole is not None else ""
        seen = f"evaluated after {record.unit} {record.evaluations[-1].step}{length}" if record.evaluations else None
        parts.append(seen or "not evaluated yet")
    return f"not finished: {', '.join(parts)}"


def _run(run: FoundRun) -> Run:
    record = run.record
    return Run(
        record=run.name,
        origin=record.origin,
        status=record.status,
        seed=record.seed,
        metrics=record.result.metrics if record.result is not None else {},
        checkpoint_sha256=record.checkpoint_sha256,
        device=record.environment.device,
        versions=record.environment.versions,
        git_commit=record.environment.git_commit,
        git_dirty=record.environment.git_dirty,
    )


def _millions(trunk: int | None, model: int | None, unit: float) -> tuple[float | None, float | None]:
    return tuple(count / unit if count is not None else None for count in (trunk, model))
