"""The leaderboard as a page of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fvnet_mm.report.leaderboard import formatting
from fvnet_mm.report.leaderboard.model import Leaderboard, Row, Table
from fvnet_mm.report.leaderboard.names import protocol_summary
from fvnet_mm.report.leaderboard.ranking import best_and_second, is_ranked, printed, ranks

INTRODUCTION = """# Leaderboard

Written by `tools/leaderboard.py` from run records; `docs/leaderboard.md` has the rules. A table is one protocol, and
only its rows are ranked against each other, but for runs that have not finished. Accuracies are in percent: the mean
over the runs, one for each seed, ± their standard deviation, with a number in parentheses where it is over only so many
of them; **bold** is the best of a table. Whether two rows differ by more than noise, `tools/leaderboard.py compare ROW
ROW` tells. A fused multiply-add is one MAC.
"""

PUBLISHED = """### Published by others

Each under a protocol of its own: to be read beside the table, not ranked with it. Parameters and MACs are of what the
note says, as their sources counted them.
"""

Column = tuple[str, bool, Callable[[Row], str]]
"""Heading, whether it holds numbers, and the text of a row's cell."""


def render_markdown(leaderboard: Leaderboard) -> str:
    """The whole page."""
    first = {row.id: table.title for table in reversed(leaderboard.tables) for row in table.published[:1]}
    parts = [INTRODUCTION, *(_section(table, first) for table in leaderboard.tables)]
    if leaderboard.problems:
        listed = "\n".join(f"- {escape(problem)}" for problem in leaderboard.problems)
        parts.append(f"## Problems\n\nRecords that are not, or not wholly, in the tables:\n\n{listed}\n")
    return "\n".join(parts)


def escape(text: str) -> str:
    """Text on one line that Markdown, GitHub's with tables and formulas, shows as it is."""
    for letter in "\\`*_|<>[]&~$":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split())


def _section(table: Table, first: dict[str, str]) -> str:
    """A table, with the published rows if it is the first that they stand beside: ``first`` has its title."""
    listed = [f"- {name}: {escape(value)}" for name, value in _facts(table).items() if value]
    lines = [f"## {escape(table.title)}", "", *listed, "", _grid(_measured_columns(table), table.rows), ""]
    if table.published:
        place = first[table.published[0].id]
        whole = [PUBLISHED, _grid(_published_columns(table), table.published), ""]
        lines += whole if table.title == place else [f"Published by others: see {escape(place)}.", ""]
    return "\n".join(lines)


def _facts(table: Table) -> dict[str, str | None]:
    """What holds for all measured rows of a table."""
    protocol = table.protocol
    return {
        "protocol": ", ".join(filter(None, (protocol.fingerprint, protocol_summary(protocol)))),
        "schedule": protocol.schedule,
        "images": formatting.images(table),
        "training images": protocol.train_pipeline,
        "test images": protocol.test_pipeline,
        "test mode": protocol.test_mode if protocol.test_mode != "default" else None,
        "MACs": formatting.at_shape(formatting.common(row.macs_shape for row in table.rows)),
        "speed": formatting.common(row.speed_note for row in _with_speed(table.rows)),
        "speeds under other conditions, left out": "; ".join(table.speeds_left_out),
        "not known, so that rows may differ in it": ", ".join(protocol.unknown),
    }


def _measured_columns(table: Table) -> list[Column]:
    places = {row.id: place for row, place in zip(table.rows, ranks(table), strict=True)}
    columns: list[Column] = [
        ("#", True, lambda row: str(places[row.id] or "–")),
        ("Backbone", False, lambda row: escape(row.label)),
        *_size_columns(table.rows),
        *((escape(name), True, _measured(table, name)) for name in formatting.shown_metrics(table)),
        ("Runs", True, lambda row: str(len(row.runs))),
        ("Latency (ms)", True, lambda row: _number(row.latency_ms)),
        ("Images/s", True, lambda row: _number(row.throughput)),
        *_unless_common("Speed on", _with_speed(table.rows), lambda row: escape(row.speed_note or "")),
        ("Training memory (GB)", True, lambda row: _number(row.peak_memory_gb)),
        ("Provenance", False, _provenance),
        ("Row", False, lambda row: f"`{row.id}`"),
    ]
    return [column for column in columns if any(column[2](row) for row in table.rows)]


def _published_columns(table: Table) -> list[Column]:
    columns: list[Column] = [
        ("Backbone", False, lambda row: escape(row.label)),
        *_size_columns(table.published),
        *((escape(name), True, _plain(name)) for name in formatting.shown_metrics(table)),
        ("Pretraining", False, lambda row: row.pretraining or ""),
        ("Source", False, lambda row: escape(row.source or "")),
        ("Note", False, lambda row: escape(row.note or "")),
    ]
    return [column for column in columns if any(column[2](row) for row in table.published)]


def _size_columns(rows: Sequence[Row]) -> list[Column]:
    return [
        ("Trunk parameters (M)", True, lambda row: formatting.count(row.parameters[0], row)),
        ("Model parameters (M)", True, lambda row: formatting.count(row.parameters[1], row)),
        ("Trunk MACs (G)", True, lambda row: formatting.count(row.macs[0], row)),
        ("Model MACs (G)", True, lambda row: formatting.count(row.macs[1], row)),
        *_unless_common("MACs", rows, lambda row: formatting.at_shape(row.macs_shape)),
    ]


def _with_speed(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.latency_ms is not None or row.throughput is not None]


def _unless_common(heading: str, rows: Sequence[Row], cell: Callable[[Row], str]) -> list[Column]:
    """A column of text, if the rows differ in it."""
    return [] if formatting.common(map(cell, rows)) else [(heading, False, cell)]


def _measured(table: Table, name: str) -> Callable[[Row], str]:
    best, _ = best_and_second(table, name)

    def cell(row: Row) -> str:
        text = formatting.metric(row, name, deviation=name == table.main_metric)
        return f"**{text}**" if is_ranked(row, name) and printed(row.metrics[name].mean) == best else text

    return cell


def _plain(name: str) -> Callable[[Row], str]:
    return lambda row: formatting.metric(row, name, deviation=False)


def _provenance(row: Row) -> str:
    return f"{row.provenance}, {escape(row.note)}" if row.note else row.provenance


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _grid(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    lines = [
        [heading for heading, _, _ in columns],
        ["---:" if number else "---" for _, number, _ in columns],
        *([cell(row) for _, _, cell in columns] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
