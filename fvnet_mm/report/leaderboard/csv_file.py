"""The leaderboard as one table of comma-separated values, a line for each row, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io

from fvnet_mm.report.leaderboard import formatting
from fvnet_mm.report.leaderboard.model import Leaderboard, Row, Table
from fvnet_mm.report.leaderboard.names import in_order, length_in_words
from fvnet_mm.report.leaderboard.ranking import is_finished, ranks

_BEFORE = (
    "table",
    "framework",
    "data",
    "length",
    "protocol",
    "pretraining",
    "provenance",
    "status",
    "rank",
    "row",
    "backbone",
    "label",
    "runs",
    "seeds",
    "trunk_parameters_m",
    "model_parameters_m",
    "trunk_macs_g",
    "model_macs_g",
    "macs_height",
    "macs_width",
)
_AFTER = ("latency_ms", "throughput", "speed_note", "peak_memory_gb", "source", "note", "records")


def render_csv(leaderboard: Leaderboard) -> str:
    """All rows of all tables with unrounded numbers; of each metric the mean, the deviation and the number of runs.

    Text that spreadsheets would take for a formula, since a record's words may be any, has an apostrophe before it.
    A published row is of no table's protocol: it stands once, with framework, data and length of training, unranked.
    """
    metrics = in_order({name for table in leaderboard.tables for name in table.metric_names})
    columns = (*_BEFORE, *(f"{name}{part}" for name in metrics for part in ("", " std", " n")), *_AFTER)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writerow({name: _harmless(name) for name in columns})
    for table in leaderboard.tables:
        place = {"table": table.title, "protocol": table.protocol.fingerprint}
        for row, rank in zip(table.rows, ranks(table), strict=True):
            writer.writerow(_all_harmless(_line(table, row) | place | {"rank": rank}))
    published = {row.id: _line(table, row) for table in leaderboard.tables for row in table.published}
    writer.writerows(map(_all_harmless, published.values()))
    return text.getvalue()


def _all_harmless(line: dict[str, object]) -> dict[str, object]:
    return {name: _harmless(value) if isinstance(value, str) else value for name, value in line.items()}


def _harmless(text: str) -> str:
    text = text.replace("\r", " ")  # which the writer would not quote
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def _line(table: Table, row: Row) -> dict[str, object]:
    shape = row.macs_shape or (None, None)
    published = row.provenance == "published"
    line = {
        "framework": table.framework,
        "data": table.data,
        "length": length_in_words(table.protocol),
        "pretraining": row.pretraining,
        "provenance": row.provenance,
        "status": None if published else "finished" if is_finished(row) else "running",
        "row": row.id,
        "backbone": row.backbone,
        "label": row.label,
        "runs": None if published else len(row.runs),
        "seeds": formatting.seeds(row),
        "trunk_parameters_m": row.parameters[0],
        "model_parameters_m": row.parameters[1],
        "trunk_macs_g": row.macs[0],
        "model_macs_g": row.macs[1],
        "macs_height": shape[0],
        "macs_width": shape[1],
        "latency_ms": row.latency_ms,
        "throughput": row.throughput,
        "speed_note": row.speed_note,
        "peak_memory_gb": row.peak_memory_gb,
        "source": row.source,
        "note": row.note,
        "records": " ".join(run.record for run in row.runs),
    }
    for name, statistic in row.metrics.items():
        line |= {name: statistic.mean, f"{name} std": statistic.std, f"{name} n": statistic.n}
    return line
