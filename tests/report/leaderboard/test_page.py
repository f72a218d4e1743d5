"""The page's markup: what is in it, that it needs nothing else, and that no text in it becomes markup."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from fvnet_mm.report.leaderboard.model import Leaderboard, Row, Statistic, Table
from fvnet_mm.report.leaderboard.page import render_page


class Markup(HTMLParser):
    """Elements, cells of tables, and scripts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: list[str] = []
        self._table: list[list[str]] | None = None
        self._open: list[str] = []
        self.feed(page)
        for name, lines in self.tables.items():
            self.tables[name] = [[" ".join(cell.split()) for cell in line] for line in lines]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        self._open.append(tag)
        if tag == "table":
            self._table = self.tables.setdefault(dict(attributes).get("id") or "contents", [])
        elif tag == "tr" and self._table is not None:
            self._table.append([])
        elif tag in ("td", "th") and self._table is not None:
            self._table[-1].append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._table = None

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        elif self._table and self._table[-1]:
            self._table[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def data(self) -> list[dict]:
        return json.loads(self.scripts[0])


def test_nothing_is_fetched(leaderboard: Leaderboard) -> None:
    markup = Markup(render_page(leaderboard))
    assert not markup.all("link")
    assert not markup.all("img")
    assert not markup.all("iframe")
    for tag, attributes in markup.elements:
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#"), tag
    style = re.search("<style>(.+?)</style>", render_page(leaderboard), re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    policy = next(meta["content"] for meta in markup.all("meta") if meta.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy


def test_bytes_are_the_same_again(leaderboard: Leaderboard) -> None:
    again = Leaderboard.model_validate_json(leaderboard.model_dump_json())
    assert render_page(leaderboard) == render_page(again)


def test_rows_stand_in_the_markup(leaderboard: Leaderboard) -> None:
    tables = Markup(render_page(leaderboard)).tables
    head, *rows = tables["table-0-measured"]
    assert head[:4] == ["#", "Backbone", "AP %", "Seeds"]
    assert [row[0] for row in rows] == [str(place) for place in range(1, 9)]
    best = leaderboard.tables[0].rows[0]
    assert rows[0][1:4] == [best.label, f"{best.metrics['AP'].mean:.1f} ± 0.20", "3"]
    cells = dict(zip(head, rows[0], strict=True))
    assert cells["Params trunk, M"] == f"{best.parameters[0]:.2f}"
    assert cells["MACs model, G"] == f"{best.macs[1]:.2f}"
    assert cells["Protocol"] == leaderboard.tables[0].protocol.fingerprint
    assert cells["Provenance"] == "measured"


def test_published_rows_stand_apart_without_rank(leaderboard: Leaderboard) -> None:
    tables = Markup(render_page(leaderboard)).tables
    head, *rows = tables["table-0-published"]
    assert "#" not in head
    assert len(rows) == 3
    assert all("(paper)" in row[0] for row in rows)
    assert not {"Seeds", "Latency ms", "Params model, M"} & set(head)  # of which nothing is known
    assert not any("(paper)" in cell for row in tables["table-0-measured"] for cell in row)


def test_unknown_numbers_are_dashes(leaderboard: Leaderboard) -> None:
    head, *rows = Markup(render_page(leaderboard)).tables["table-1-measured"]
    cells = next(dict(zip(head, cells, strict=True)) for cells in rows if cells[1].startswith("A trunk"))
    assert cells["AP50 %"] == cells["Params trunk, M"] == cells["Pretraining"] == "–"
    assert (cells["AP %"], cells["Seeds"]) == ("21.0", "1")


def test_deviation_over_fewer_seeds_says_so(table: Callable[..., Table], row: Callable[..., Row]) -> None:
    statistics = {"AP": Statistic(mean=30, std=0.5, n=3), "AP_L": Statistic(mean=40, n=1)}
    page = render_page(Leaderboard(suite_version="1", tables=(table(rows=(row(0, metrics=statistics),)),)))
    head, cells = Markup(page).tables["table-0-measured"]
    shown = dict(zip(head, cells, strict=True))
    assert (shown["AP %"], shown["AP_L %"]) == ("30.0 ± 0.50", "40.0 (1)")


def test_unfinished_rows_have_no_rank(table: Callable[..., Table], row: Callable[..., Row]) -> None:
    begun = row(7, note="not finished: evaluated after epoch 3 of 12")
    begun = begun.model_copy(update={"runs": (begun.runs[0].model_copy(update={"status": "running"}),)})
    page = render_page(Leaderboard(suite_version="1", tables=(table(rows=(begun, row(0))),)))
    rows = Markup(page).tables["table-0-measured"][1:]
    assert {row[1]: row[0] for row in rows} == {f"{begun.label} {begun.note}": "–", "FVNet-T": "1"}


def test_no_text_becomes_markup(table: Callable[..., Table], row: Callable[..., Row]) -> None:
    evil = "</script><!--<script><img src=x onerror=alert(1)>&\u2028\"'"
    rows = (row(0, label=evil, note=evil, per_class={evil: {"AP": 1.0}, "cup": {"AP": 2.0}}, speed_note=evil),)
    board = Leaderboard(suite_version=evil, tables=(table(evil, rows, data=evil),), problems=(evil,))
    markup = Markup(render_page(board))
    harmless = Markup(
        render_page(Leaderboard(suite_version="1", tables=(table(rows=(row(0, note="x"),)),), problems=("x",)))
    )
    assert [tag for tag, _ in markup.elements] == [tag for tag, _ in harmless.elements]
    assert markup.data()[0]["rows"][0]["label"] == evil
    assert markup.data()[0]["classes"][0] == evil


def test_data_of_the_scripts_are_those_of_the_leaderboard(leaderboard: Leaderboard) -> None:
    first = Markup(render_page(leaderboard)).data()[0]
    table = leaderboard.tables[0]
    rows = (*table.rows, *table.published)
    assert [row["label"] for row in first["rows"]] == [row.label for row in rows]
    for shown, row in zip(first["rows"], rows, strict=True):
        values = dict(zip(first["classes"], shown["classes"].get("AP", ()), strict=False))
        assert values == pytest.approx({name: result["AP"] for name, result in row.per_class.items()}, abs=1e-4)
    drawn = first["charts"]["parameters-trunk"]["AP"]
    assert dict((*drawn["measured"], *drawn["published"])) == {
        place: row.parameters[0] for place, row in enumerate(rows)
    }
    assert max(drawn["front"]) < len(table.rows)


def test_every_run_is_behind_its_row(leaderboard: Leaderboard) -> None:
    page = render_page(leaderboard)
    ids = [template["id"] for template in Markup(page).all("template")]
    assert len(ids) == len(set(ids)) == sum(len(table.rows) + len(table.published) for table in leaderboard.tables)
    for table in leaderboard.tables:
        for row in table.rows:
            for run in row.runs:
                for fact in (run.record, run.checkpoint_sha256, run.git_commit, run.device):
                    assert f"<dd>{fact}" in page
    assert "with uncommitted changes" in page


def test_pages_of_little(table: Callable[..., Table], row: Callable[..., Row]) -> None:
    assert "No run with a result was found." in render_page(Leaderboard(suite_version="1", tables=()))
    only_published = render_page(Leaderboard(suite_version="1", tables=(table(rows=()),)))
    assert "No measured row yet." in only_published
    assert Markup(only_published).tables.keys() == {"table-0-published"}
    bare = Row(
        id="a-1",
        backbone="a",
        label="A",
        provenance="measured",
        metrics={"AP": Statistic(mean=3)},
        runs=row(0).runs[:1],
    )
    page = Markup(render_page(Leaderboard(suite_version="1", tables=(table(rows=(bare,), published=()),))))
    assert len(page.tables["table-0-measured"]) == 2
    assert not page.all("figure")


def test_metrics_that_no_row_has_get_no_column(table: Callable[..., Table], row: Callable[..., Row]) -> None:
    short = row(0, metrics={"AP": Statistic(mean=3)})
    page = Markup(render_page(Leaderboard(suite_version="1", tables=(table(rows=(short,), published=()),))))
    assert [head for head in page.tables["table-0-measured"][0] if head.startswith("AP")] == ["AP %"]
