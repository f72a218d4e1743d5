import csv
import io
import math
import statistics

import pytest

from fvnet_mm.data.classes import COCO_CLASSES
from fvnet_mm.records import Backbone, Data, Result, Split
from fvnet_mm.report.leaderboard.csv_file import render_csv
from fvnet_mm.report.leaderboard.model import Leaderboard
from fvnet_mm.report.leaderboard.tables import build_leaderboard


def read(leaderboard: Leaderboard) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render_csv(leaderboard))))


def test_a_line_for_each_row(records):
    leaderboard = build_leaderboard([records])
    lines = read(leaderboard)
    assert [line["row"] for line in lines] == [row.id for table in leaderboard.tables for row in table.rows]
    assert lines[0]["seeds"] == "0, 1"
    assert [line["rank"] for line in lines[:4]] == ["1", "2", "3", ""]
    assert lines[3]["status"] == "running"
    assert {line["protocol"] for line in lines} == {table.protocol.fingerprint for table in leaderboard.tables}


def test_numbers_are_not_rounded_as_the_tables_round_them(write_run, tmp_path):
    values = (31.04, 31.31, 30.77)
    for seed, value in enumerate(values):
        write_run(f"run{seed}", seed=seed, AP=value)
    (line,) = read(build_leaderboard([tmp_path]))
    assert math.isclose(float(line["AP"]), statistics.mean(values), abs_tol=1e-6)
    assert math.isclose(float(line["AP std"]), statistics.stdev(values), abs_tol=1e-6)
    assert line["AP n"] == "3"
    assert line["records"].split() == [f"work_dirs/run{seed}/run.json" for seed in range(3)]


def test_text_comes_back_as_it_was(write_run, tmp_path):
    label = 'a "quoted", name;\nof two lines'
    write_run("run", data=Data(label=label, classes=("a",)))
    (line,) = read(build_leaderboard([tmp_path]))
    assert line["data"] == label


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r="])
def test_no_cell_begins_a_formula(start, write_run, tmp_path):
    """Of a record that somebody else wrote."""
    text = f"{start}cmd|' /C calc'!A0"
    result = Result(metrics={"AP": -1.5, text: 3.0})
    write_run("run", data=Data(label=text, classes=("a",)), backbone=Backbone(name=text), result=result)
    (line,) = read(build_leaderboard([tmp_path]))
    harmless = "'" + text.replace("\r", " ")
    assert (line["data"], line["backbone"], line[harmless]) == (harmless, harmless, "3.0")
    assert line["AP"] == "-1.5"
    assert not any(cell.startswith(start) for pair in line.items() for cell in pair if cell != "-1.5")


def test_published_rows_stand_once_without_protocol_and_rank(write_run, tmp_path):
    coco = Data(label="coco", classes=COCO_CLASSES, val=Split(images=5000))
    for pretraining in ("scratch", "plain"):
        write_run(pretraining, data=coco, protocol=dict(pretraining=pretraining))
    leaderboard = build_leaderboard([tmp_path])
    lines = [line for line in read(leaderboard) if line["provenance"] == "published"]
    assert len(lines) == len({line["row"] for line in lines}) == len(leaderboard.tables[0].published) > 0
    assert all(line["source"] and line["length"] == "12 epochs" for line in lines)
    assert not any(line[name] for line in lines for name in ("protocol", "rank", "table", "status", "seeds", "records"))
