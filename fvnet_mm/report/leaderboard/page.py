"""The leaderboard as one HTML page: all that it needs is in the file, and it opens without a network.

The tables are in the markup, readable without scripts. DataTables sorts and filters them, plotly draws the plots;
both are taken from installed packages (itables, plotly) and written into the page, about 5.5 MB. They stand in it as
text, and the page's own script starts them when they are needed: what is read first does not wait for the plots.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from fvnet_mm.report.leaderboard.formatting import common, count, number_of_some
from fvnet_mm.report.leaderboard.model import Leaderboard, Row, Statistic, Table
from fvnet_mm.report.leaderboard.names import protocol_summary
from fvnet_mm.report.leaderboard.pareto import COSTS, Cost, chart
from fvnet_mm.report.leaderboard.ranking import printed, ranks

_TEMPLATES = files("fvnet_mm.report.leaderboard") / "templates"
_SCRIPTS = ("tables.js", "plots.js", "differences.js")  # parts of one module, in this order
_DIGITS = 4  # behind the point, of numbers in percent that the scripts compare


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, what stands beside it in small print, and what it is sorted by (None: unknown)."""

    text: str
    detail: str = ""
    order: float | str | None = None


@dataclass(frozen=True)
class Column:
    """A column: heading, what the heading means, how its cells align and sort, and the cell of a row.

    ``kind`` is 'score' (numbers, high ones first), 'cost' (numbers, low ones first) or 'text'.
    """

    heading: str
    unit: str
    kind: str
    cell: Callable[[Row], Cell]


def render_page(leaderboard: Leaderboard) -> str:
    """Returns the page; the same leaderboard and the same installed libraries give the same bytes."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(plural=_plural, printed=printed, breakable=_breakable)
    page = _script("\n".join(_asset(name) for name in _SCRIPTS))
    return environment.get_template("page.html").render(
        leaderboard=leaderboard,
        boards=[_board(index, table) for index, table in enumerate(leaderboard.tables)],
        data=Markup(_json([_payload(index, table) for index, table in enumerate(leaderboard.tables)])),
        style=Markup(_asset("page.css")),
        plotly=_script(get_plotlyjs()),
        datatables=_script(_datatables()),
        page=page,
        hash=_hash(page),
    )


def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _datatables() -> str:
    return (files("itables") / "html" / "dt_bundle.js").read_text(encoding="utf-8")


def _script(source: str) -> Markup:
    """Makes a script safe inside of a script element: in strings and expressions a backslash changes neither mark."""
    return Markup(re.sub(r"<(?=/script|!--)", r"<\\", source, flags=re.IGNORECASE).strip())


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _json(value: object) -> str:
    """Returns JSON without '<', so that no text in it can end the script element around it."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"


def _breakable(name: str) -> Markup:
    """Lets a name break where its words meet, as in EfficientFormer."""
    return Markup("<wbr>").join(re.split(r"(?<=[a-z])(?=[A-Z])|(?<=_)", name))


def _board(index: int, table: Table) -> dict[str, object]:
    """What the template shows of a table."""
    rows = (*table.rows, *table.published)
    places = ranks(table)
    return dict(
        id=f"table-{index}",
        table=table,
        best=table.rows[places.index(1)] if 1 in places else None,
        summary=protocol_summary(table.protocol),
        protocol={
            name.replace("_", " "): "unknown" if value is None else value
            for name, value in table.protocol.model_dump(exclude={"fingerprint"}).items()
        },
        measured=_part(f"table-{index}-measured", table.rows, places, _columns(table, table.rows)),
        published=_part(
            f"table-{index}-published",
            table.published,
            [None] * len(table.published),
            _columns(table, table.published),
        ),
        metrics=_metrics(table, rows),
        speed=common(row.speed_note for row in table.rows if row.speed_note is not None),
        costs=[cost for cost in COSTS if any(cost.value(row) is not None for row in rows)],
        comparable=sum(bool(row.per_class) for row in rows),
    )


def _metrics(table: Table, rows: Sequence[Row]) -> list[str]:
    """The table's metrics that one of the rows has, the main one first."""
    known = [name for name in table.metric_names if any(name in row.metrics for row in rows)]
    return sorted(known, key=lambda name: name != table.main_metric)


def _part(
    identifier: str, rows: Sequence[Row], places: Sequence[int | None], columns: Sequence[Column]
) -> dict[str, object]:
    cells = [[column.cell(row) for column in columns] for row in rows]
    return dict(
        id=identifier,
        columns=columns,
        detailed=[any(of_row[index].detail for of_row in cells) for index in range(len(columns))],
        rows=[
            dict(id=f"{identifier}-{index}", row=row, rank=rank, cells=of_row)
            for index, (row, rank, of_row) in enumerate(zip(rows, places, cells, strict=True))
        ],
    )


def _columns(table: Table, rows: tuple[Row, ...]) -> list[Column]:
    """The columns behind rank and name: the main metric, what it costs, then its parts and where all that comes from.

    Published rows get those that some of them can fill.
    """
    metrics = [Column(name, "%", "score", lambda row, name=name: _score(row, name)) for name in _metrics(table, rows)]
    seeds = Column("Seeds", "", "score", lambda row: Cell(str(len(row.runs)), order=len(row.runs)))
    costs = [
        Column("Params", "trunk, M", "cost", lambda row: _number(row.parameters[0], count(row.parameters[0], row))),
        Column("Params", "model, M", "cost", lambda row: _number(row.parameters[1], count(row.parameters[1], row))),
        Column("MACs", "trunk, G", "cost", lambda row: _number(row.macs[0], count(row.macs[0], row))),
        Column("MACs", "model, G", "cost", lambda row: _number(row.macs[1], count(row.macs[1], row))),
        Column("Latency", "ms", "cost", lambda row: _number(row.latency_ms)),
        Column("Throughput", "images/s", "score", lambda row: _number(row.throughput)),
        Column("Memory", "training, GB", "cost", lambda row: _number(row.peak_memory_gb)),
    ]
    pretraining = Column("Pretraining", "", "text", lambda row: _text(row.pretraining))
    if rows is not table.rows:
        costs = [column for column in costs if any(column.cell(row).order is not None for row in rows)]
        source = Column("Source", "", "text", lambda row: _text(row.source))
        note = Column("Note", "", "text", lambda row: _text(row.note))
        return [*metrics[:1], *costs, *metrics[1:], pretraining, source, note]
    protocol = Column("Protocol", "", "text", lambda row: _text(table.protocol.fingerprint))
    provenance = Column("Provenance", "", "text", lambda row: Cell(row.provenance, row.note or "", row.provenance))
    return [*metrics[:1], seeds, *costs, *metrics[1:], pretraining, protocol, provenance]


def _score(row: Row, name: str) -> Cell:
    statistic = row.metrics.get(name)
    return Cell("–") if statistic is None else Cell(printed(statistic.mean), spread(row, statistic), statistic.mean)


def spread(row: Row, statistic: Statistic) -> str:
    """Returns '± 0.21', the deviation over the seeds; with '(2)' where a metric is defined in only 2 of the runs."""
    deviation = f"± {statistic.std:.2f}" if statistic.std is not None else ""
    return f"{deviation} {number_of_some(row, statistic)}".strip()


def _number(value: float | None, text: str | None = None) -> Cell:
    """A cell of a number, by default with one decimal."""
    return Cell("–") if value is None else Cell(f"{value:,.1f}" if text is None else text, order=value)


def _text(value: str | None) -> Cell:
    return Cell(value or "–", order=value)


def _payload(index: int, table: Table) -> dict[str, object]:
    """What the scripts need of a table: numbers to draw and to compare; rows are named by their place in it."""
    rows = (*table.rows, *table.published)
    metrics = _metrics(table, rows)
    classes = list(dict.fromkeys(name for row in rows for name in row.per_class))
    return dict(
        id=f"table-{index}",
        title=table.title,
        metrics=metrics,
        protocol=table.protocol.model_dump(exclude={"fingerprint"}),
        classes=classes,
        rows=[
            dict(
                id=f"table-{index}-{part}-{place}",
                label=row.label,
                provenance=row.provenance,
                pretraining=row.pretraining,
                metrics={
                    name: dict(mean=round(statistic.mean, _DIGITS), std=statistic.std, detail=spread(row, statistic))
                    for name, statistic in row.metrics.items()
                },
                runs=[dict(record=run.record, seed=run.seed) for run in row.runs],
                source=row.source,
                classes=_by_class(row, classes),
            )
            for part, part_rows in (("measured", table.rows), ("published", table.published))
            for place, row in enumerate(part_rows)
        ],
        charts={cost.key: {metric: _chart_payload(table, cost, metric) for metric in metrics} for cost in COSTS},
    )


def _by_class(row: Row, classes: list[str]) -> dict[str, list[float | None]]:
    """Metric -> its value of each class."""
    metrics = dict.fromkeys(metric for result in row.per_class.values() for metric in result)
    values = {metric: [row.per_class.get(name, {}).get(metric) for name in classes] for metric in metrics}
    return {
        metric: [None if value is None else round(value, _DIGITS) for value in column]
        for metric, column in values.items()
    }


def _chart_payload(table: Table, cost: Cost, metric: str) -> dict[str, object]:
    drawn = chart(table, cost, metric)
    places = {id(row): place for place, row in enumerate((*table.rows, *table.published))}
    return dict(
        measured=[[places[id(point.row)], point.cost] for point in drawn.measured],
        published=[[places[id(point.row)], point.cost] for point in drawn.published],
        front=[places[id(point.row)] for point in drawn.front],
        condition=drawn.condition,
        left_out=drawn.left_out,
    )
