import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fvnet_mm.data.classes import COCO_CLASSES
from fvnet_mm.records import Backbone, Data, Result, Split, Times
from fvnet_mm.records.reading import read_record
from fvnet_mm.report.leaderboard.markdown import escape, render_markdown
from fvnet_mm.report.leaderboard.reproduce import find_runs
from fvnet_mm.report.leaderboard.tables import build_leaderboard


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def test_tables_are_grids(records):
    page = render_markdown(build_leaderboard([records]))
    grids = [block for block in page.split("\n\n") if block.startswith("|")]
    assert len(grids) == 2
    for grid in grids:
        assert len({len(cells(line)) for line in grid.splitlines()}) == 1
    header, _, first, *_ = grids[0].splitlines()
    row = dict(zip(cells(header), cells(first), strict=True))
    assert row["AP"] == "**33.2 ± 0.2**"
    assert (row["#"], row["Runs"], row["Trunk parameters (M)"]) == ("1", "2", "7.90")


def test_best_is_bold_among_finished_rows_only(write_run, tmp_path):
    for name, value, status in (("a", 30.0, "finished"), ("b", 31.0, "finished"), ("c", 60.0, "running")):
        write_run(name, AP=value, status=status, backbone=Backbone(name=name))
    page = render_markdown(build_leaderboard([tmp_path]))
    assert "**31.0**" in page
    assert "**60.0**" not in page
    assert "60.0" in page


def test_a_mean_over_some_of_the_runs_says_over_how_many(write_run, tmp_path):
    for seed, (ap, small) in enumerate(((40.0, None), (None, 1.0), (41.0, 3.0))):
        write_run(f"run{seed}", seed=seed, result=Result(metrics={"AP": ap, "AP50": 60.0, "AP_S": small}))
    lines = [line for line in render_markdown(build_leaderboard([tmp_path])).splitlines() if line.startswith("|")]
    row = dict(zip(cells(lines[0]), cells(lines[2]), strict=True))
    assert (row["AP"], row["AP50"], row[r"AP\_S"]) == ("40.5 ± 0.7 (2)", "60.0", "2.0 (2)")
    assert row["Runs"] == "3"


def test_problems_are_listed(write_run, tmp_path):
    write_run("good")
    write_run("bad", seed=1).write_text("{")
    page = render_markdown(build_leaderboard([tmp_path]))
    assert "- bad/run.json: is not JSON" in page.replace("work\\_dirs/", "")


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")))
def test_text_in_a_cell_means_nothing_to_markdown(text):
    """As another implementation of CommonMark with GitHub's tables reads it."""
    page = f"| heading |\n| --- |\n| {escape(text)} |"
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)
    cells = [token for before, token in pairwise(tokens) if before.type in ("th_open", "td_open")]
    assert len(cells) == 2
    assert {part.type for part in cells[1].children} <= {"text", "text_special"}
    assert "".join(part.content for part in cells[1].children) == " ".join(text.split())


def test_a_row_is_one_word_whatever_its_parts_are_called(write_run, tmp_path):
    """Of a record that somebody else wrote; and it is found by that name."""
    write_run("run", framework="net|`x`", backbone=Backbone(name="a trunk|\n`rm`"), protocol=dict(framework="net"))
    (table,) = build_leaderboard([tmp_path]).tables
    (row,) = table.rows
    assert re.fullmatch(r"net_x_-a_trunk_rm_-[0-9a-f]{8}", row.id)
    grid = [line for line in render_markdown(build_leaderboard([tmp_path])).splitlines() if line.startswith("|")]
    assert cells(grid[2])[-1] == f"`{row.id}`"
    assert len(cells(grid[0])) == len(cells(grid[2]))
    assert [run.name for run in find_runs(row.id, [tmp_path])] == ["work_dirs/run/run.json"]


def test_columns_without_a_value_are_not_there(write_run, tmp_path):
    write_run("bare", AP=30.0, complexity=None, times=Times())
    header = next(line for line in render_markdown(build_leaderboard([tmp_path])).splitlines() if line.startswith("|"))
    assert cells(header) == ["#", "Backbone", "AP", "Runs", "Provenance", "Row"]


def test_protocol_stands_below_the_title(records):
    leaderboard = build_leaderboard([records])
    page = render_markdown(leaderboard)
    for table in leaderboard.tables:
        _, _, section = page.partition(f"## {table.title}\n")
        facts = section.partition("\n|")[0]
        assert table.protocol.fingerprint in facts
        for fact in ("learning rate 0.0001", "10 for validation", "Resize", "at 320x320"):
            assert fact in facts


def test_what_is_common_is_said_once_and_what_is_not_has_a_column(write_run, tmp_path):
    example = read_record(write_run("a"))
    other = example.complexity.model_copy(update=dict(shape=(640, 640)))
    page = render_markdown(build_leaderboard([tmp_path]))
    assert page.count("at 320x320 pixels") == 1
    write_run("b", backbone=Backbone(name="fvnet_s"), complexity=other)
    page = render_markdown(build_leaderboard([tmp_path]))
    assert "- MACs" not in page
    assert "| at 640x640 pixels |" in page


def test_what_an_import_does_not_know_is_said(write_run, tmp_path):
    write_run("a", origin="imported", protocol=dict(data=None, frozen_stages=None))
    page = render_markdown(build_leaderboard([tmp_path]))
    assert "- not known, so that rows may differ in it: data, frozen stages\n" in page


def test_published_rows_stand_apart_and_once(write_run, tmp_path):
    coco = Data(label="coco", classes=COCO_CLASSES, val=Split(images=5000))
    for pretraining in ("scratch", "plain"):
        write_run(pretraining, data=coco, protocol=dict(pretraining=pretraining))
    leaderboard = build_leaderboard([tmp_path])
    page = render_markdown(leaderboard)
    assert page.count("### Published by others") == 1
    assert f"see {leaderboard.tables[0].title}." in page
    grids = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    assert len(grids) == 3
    published = grids[1]
    assert {"Source", "Note"} <= set(cells(published[0]))
    assert "#" not in cells(published[0])
    assert not any("**" in line for line in published)
