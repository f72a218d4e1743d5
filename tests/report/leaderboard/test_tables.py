import re
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fvnet_mm.data.classes import ADE20K_CLASSES, COCO_CLASSES
from fvnet_mm.records import Backbone, Data, Environment, Protocol, Split, Times
from fvnet_mm.records.from_config import TEST_FIELDS
from fvnet_mm.records.reading import read_record
from fvnet_mm.report.leaderboard.figures import file_names
from fvnet_mm.report.leaderboard.latex import render_latex
from fvnet_mm.report.leaderboard.model import Leaderboard
from fvnet_mm.report.leaderboard.names import TRUNKS
from fvnet_mm.report.leaderboard.ranking import best_and_second, ranks
from fvnet_mm.report.leaderboard.tables import build_leaderboard
from fvnet_mm.report.published import read_published

ROOT = Path(__file__).parents[3]
COCO = Data(label="coco", classes=COCO_CLASSES, train=Split(images=118_287), val=Split(images=5000))


def test_rows_of_one_protocol_are_ordered_and_ranked(records):
    table, other = build_leaderboard([records]).tables
    assert [row.label for row in table.rows] == ["FVNet-S", "FVNet-T", "MobileNetV2", "FVNet-M"]
    assert ranks(table) == (1, 2, 3, None)  # the last has not finished
    assert other.framework == "semantic_fpn"
    assert other.main_metric == "mIoU"
    assert table.title == "RetinaNet on invented-shapes, 12 epochs, from scratch"


def test_runs_that_go_on_stand_last(write_run, tmp_path):
    write_run("done", AP=30.0, backbone=Backbone(name="fvnet_t"))
    write_run("begun", AP=60.0, backbone=Backbone(name="fvnet_s"), status="running")
    (table,) = build_leaderboard([tmp_path]).tables
    assert [row.metrics["AP"].mean for row in table.rows] == [30.0, 60.0]


def test_every_protocol_has_a_table_with_a_title_of_its_own(write_run, tmp_path):
    write_run("a")
    write_run("b", protocol=dict(pretraining="plain"))
    write_run("c", protocol=dict(effective_batch=99))
    titles = [table.title for table in build_leaderboard([tmp_path]).tables]
    assert len(set(titles)) == 3
    assert any("effective batch 99" in title for title in titles)


def test_no_field_of_the_protocol_may_differ_within_a_table(write_run, tmp_path):
    """Whatever it is: a run that differs in one field is in a table of its own."""
    example = read_record(write_run("run"))
    fields = [name for name in Protocol.model_fields if name != "framework"]
    for name in fields:
        value = getattr(example.protocol, name)
        others = {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: v + 1, str: lambda v: v + "x"}
        write_run(name, protocol={name: others[type(value)](value)})
        write_run(f"{name} unknown", protocol={name: None})
    tables = build_leaderboard([tmp_path]).tables
    assert len(tables) == 2 * len(fields) + 1
    for table in tables:
        (row,) = table.rows
        protocols = {read_record(tmp_path / run.record).protocol.fingerprint for run in row.runs}
        assert protocols == {table.protocol.fingerprint}
    assert len({table.title for table in tables}) == len(tables)


def test_runs_of_two_protocols_are_in_no_common_table(write_run, tmp_path):
    """What changed is unknown in both, and may have been different things; a second seed is no exception."""
    for number, (trunk, seed) in enumerate((("fvnet_t", 0), ("fvnet_s", 0), ("fvnet_s", 1))):
        started = Times(started=datetime(2026, 1, 1 + number, tzinfo=timezone.utc))
        changes = dict(backbone=Backbone(name=trunk), seed=seed, times=started)
        write_run(f"{number}", protocol=dict(learning_rate=None), **changes)
        write_run(f"{number} tested", protocol=dict(data=None), origin="test", **changes)
    tables = build_leaderboard([tmp_path]).tables
    assert [len(row.runs) for table in tables for row in table.rows] == [1] * 6
    assert len(tables) == len({table.title for table in tables}) == len({table.identity for table in tables}) == 6


@pytest.mark.parametrize(
    "changes",
    [dict(val=Split(images=10, fingerprint="1" * 12)), dict(val=Split(images=10)), dict(classes=("circle", "square"))],
)
@pytest.mark.parametrize("origin", ["test", "imported"])
def test_data_of_one_name_and_unknown_fingerprint_are_no_one_table(write_run, tmp_path, changes, origin):
    """As of tests of checkpoints without their trainings' records, and of imports."""
    data = Data(label="val", classes=("circle",), val=Split(images=10, fingerprint="0" * 12))
    of_training = Protocol.model_fields.keys() - TEST_FIELDS if origin == "test" else ()
    unknown = dict.fromkeys((*of_training, "data"))
    for name, of in (("a", data), ("b", data), ("c", data.model_copy(update=changes))):
        write_run(name, origin=origin, seed=None, data=of, protocol=unknown, backbone=Backbone(name=name))
    tables = build_leaderboard([tmp_path]).tables
    assert sorted("".join(sorted(row.label for row in table.rows)) for table in tables) == ["ab", "c"]
    assert len({table.title for table in tables}) == len({table.protocol.fingerprint for table in tables}) + 1 == 2
    assert len({row.id for table in tables for row in table.rows}) == 3
    assert len({*file_names(tables)}) == 2
    labels = re.findall(r"\\label\{(.+?)\}", render_latex(Leaderboard(suite_version="1", tables=tables)))
    assert len({*labels}) == len(labels) == 2


def test_imports_that_name_no_classes_are_of_the_data_of_their_folder(write_run, tmp_path):
    for name in ("a", "b"):
        data = Data(label="coco", classes=())
        write_run(name, origin="imported", data=data, protocol=dict(data=None), backbone=Backbone(name=name))
    (table,) = build_leaderboard([tmp_path]).tables
    assert (len(table.rows), table.data) == (2, "coco")


def test_published_rows_are_never_ranked(write_run, tmp_path):
    """Not even if they are the best by far, or slip in among the measured rows."""
    for name, value in (("fvnet_t", 1.0), ("fvnet_s", 2.0)):
        write_run(name, AP=value, data=COCO, backbone=Backbone(name=name))
    (table,) = build_leaderboard([tmp_path]).tables
    assert ranks(table) == (1, 2)
    assert best_and_second(table, "AP") == ("2.0", "1.0")
    mixed = table.model_copy(update=dict(rows=(*table.published, *table.rows)))
    assert ranks(mixed) == (None,) * len(table.published) + (1, 2)
    assert best_and_second(mixed, "AP") == ("2.0", "1.0")


def test_fvnet_has_no_published_results():
    assert not [result for result in read_published() if "fvnet" in result.backbone.lower()]


def test_numbers_of_images(write_run, tmp_path):
    write_run("a")
    assert build_leaderboard([tmp_path]).tables[0].images == (40, 10)
    write_run("b", seed=1, backbone=Backbone(name="fvnet_s"), data=None)
    unknown = [table for table in build_leaderboard([tmp_path]).tables if table.data == "unknown data"]
    assert [table.images for table in unknown] == [(None, None)]


def test_rows_say_the_images_of_their_batch_norms_where_these_differ(write_run, tmp_path):
    def notes(norm_eval):
        for name, seed, images in (("fvnet_t", 0, 16), ("fvnet_s", 0, 1), ("fvnet_s", 1, 16), ("fvnet_m", 0, None)):
            environment = Environment(images_per_device=images)
            changes = dict(backbone=Backbone(name=name), environment=environment, protocol=dict(norm_eval=norm_eval))
            write_run(f"{name}{seed}", seed=seed, **changes)
        (table,) = build_leaderboard([tmp_path]).tables
        return {row.backbone: row.note for row in table.rows}

    said = {"fvnet_t": "16 images at once in batch norm", "fvnet_s": "1 or 16 images at once in batch norm"}
    assert notes(norm_eval=False) == said | {"fvnet_m": None}
    assert set(notes(norm_eval=True).values()) == {None}


def test_rows_of_equal_batches_need_no_word(write_run, tmp_path):
    for name in ("fvnet_t", "fvnet_s"):
        write_run(name, backbone=Backbone(name=name), environment=Environment(images_per_device=16))
    (table,) = build_leaderboard([tmp_path]).tables
    assert {row.note for row in table.rows} == {None}


def test_same_label_is_told_apart(write_run, tmp_path):
    for rate in (0.0, 0.1):
        backbone = Backbone(name="fvnet_t", type="FVNet", arguments=dict(arch="t", drop_path_rate=rate))
        write_run(f"run{rate}", backbone=backbone)
    (table,) = build_leaderboard([tmp_path]).tables
    assert {row.label for row in table.rows} == {"FVNet-T (drop_path_rate=0.0)", "FVNet-T (drop_path_rate=0.1)"}


def test_equal_whatever_the_place_and_the_order(records, tmp_path):
    import shutil

    moved = tmp_path / "elsewhere" / "runs"
    shutil.copytree(records, moved)
    assert build_leaderboard([moved]) == build_leaderboard([records])
    folders = [path for path in sorted(records.iterdir()) if path.is_dir()]
    assert build_leaderboard(folders[::-1]) == build_leaderboard([records])


def test_published_rows_stand_beside_the_real_data_only(write_run, tmp_path):
    write_run("own")
    write_run("coco", data=COCO)
    tables = {table.data: table for table in build_leaderboard([tmp_path]).tables}
    assert tables["invented-shapes"].published == ()
    published = tables["COCO 2017"].published
    means = [row.metrics["AP"].mean for row in published]
    assert means == sorted(means, reverse=True)
    assert all(row.source and not row.runs for row in published)
    assert not any("fvnet" in row.backbone.lower() for row in published)
    assert build_leaderboard([tmp_path], published=False).tables[0].published == ()


@pytest.mark.parametrize(
    "changes",
    [
        dict(train=Split(images=1183)),
        dict(val=Split(images=500)),
        dict(val=None),
        dict(classes=COCO_CLASSES[:-1]),
    ],
)
@pytest.mark.parametrize("label", ["part", "COCO 2017"])
def test_a_part_of_a_benchmark_is_not_the_benchmark(write_run, tmp_path, changes, label):
    """Nor in a folder that is called so."""
    write_run("run", data=COCO.model_copy(update=dict(label=label) | changes))
    (table,) = build_leaderboard([tmp_path]).tables
    assert (table.data, table.published) == (label, ())


@pytest.mark.parametrize(("field", "images"), [("train_pipeline", (None, 5000)), ("test_pipeline", (118_287, None))])
def test_some_images_of_a_benchmark_are_not_the_benchmark(write_run, tmp_path, field, images):
    """The pipelines as records word them, of a data set alone and in a wrapper."""
    for pipeline in ("indices=1000, LoadImageFromFile", "filter(min_size=32), indices=(0, 1), Resize, RepeatDataset"):
        write_run("run", data=COCO, protocol={field: pipeline})
        (table,) = build_leaderboard([tmp_path]).tables
        assert (table.data, table.published, table.images) == ("coco", (), images)
    write_run("run", data=COCO, protocol={field: "Probe(out_indices=(1, 2)), Resize"})
    (table,) = build_leaderboard([tmp_path]).tables
    assert (table.data, table.images) == ("COCO 2017", (118_287, 5000))
    assert table.published


def test_a_test_has_no_training_images_to_go_by(write_run, tmp_path):
    write_run("run", origin="test", data=COCO.model_copy(update=dict(train=None)))
    (table,) = build_leaderboard([tmp_path]).tables
    assert (table.data, table.images) == ("COCO 2017", (None, 5000))


@pytest.mark.parametrize(
    ("classes", "train", "val", "name"),
    [
        (ADE20K_CLASSES, 20_210, 2000, "ADE20K"),
        (tuple(map(str, range(1000))), 1_281_167, 50_000, "ImageNet-1k"),
        (tuple(map(str, range(1000))), 1_281_167, 10_000, "own"),
    ],
)
def test_benchmarks_are_known_by_classes_and_images(write_run, tmp_path, classes, train, val, name):
    data = Data(label="own", classes=classes, train=Split(images=train), val=Split(images=val))
    write_run("run", data=data)
    assert build_leaderboard([tmp_path]).tables[0].data == name


def test_published_numbers_as_their_source_has_them(write_run, tmp_path):
    """PoolFormer-S12 and EMO-1M with RetinaNet 1x: the READMEs of their repositories."""
    write_run("coco", data=COCO)
    (table,) = build_leaderboard([tmp_path]).tables
    rows = [row for row in table.published if row.backbone == "poolformer_s12"]
    (row,) = (row for row in rows if "sail-sg/poolformer" in row.source)
    assert row.metrics["AP"].mean == 36.2
    (row,) = (row for row in rows if "LSNet" in row.source)
    assert row.macs_shape == (512, 512)
    assert "classification network" in row.note
    (row,) = (row for row in table.published if row.label == "EMO-1M")
    assert (row.parameters, row.macs) == ((None, 10.4), (None, 163))
    assert "whole detector" in row.note


@pytest.mark.parametrize("changes", [dict(length=36), dict(length=None), dict(length_unit="step")])
def test_published_rows_have_the_table_length(write_run, tmp_path, changes):
    write_run("coco", data=COCO, protocol=changes)
    (table,) = build_leaderboard([tmp_path]).tables
    assert table.published == ()


def test_every_description_has_a_label():
    names = {path.stem for path in (ROOT / "configs" / "_base_" / "backbones").glob("*.py")}
    assert names == set(TRUNKS)
    assert len(set(TRUNKS.values())) == len(TRUNKS)
