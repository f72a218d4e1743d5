"""Speeds of rows come from benchmarks, of one set of conditions per table."""

import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fvnet_mm.backbones import FVNet
from fvnet_mm.records import Backbone
from fvnet_mm.records.benchmark import BenchmarkRecord, Conditions
from fvnet_mm.records.benchmark_file import write_benchmark
from fvnet_mm.records.reading import read_record, write_record
from fvnet_mm.report.leaderboard.collecting import FoundBenchmark
from fvnet_mm.report.leaderboard.markdown import render_markdown
from fvnet_mm.report.leaderboard.model import Leaderboard, Row
from fvnet_mm.report.leaderboard.page import render_page
from fvnet_mm.report.leaderboard.speeds import with_speeds
from fvnet_mm.report.leaderboard.tables import build_leaderboard
from fvnet_mm.report.leaderboard.versions import is_of, version_problems

RECORDS = Path(__file__).with_name("records")

Make = Callable[..., BenchmarkRecord]


@pytest.fixture
def work_dirs(tmp_path: Path) -> Path:
    """A copy of the committed examples: RetinaNet with three trunks, Semantic FPN with two."""
    return shutil.copytree(RECORDS, tmp_path / "work_dirs")


def as_runs(record: BenchmarkRecord, whole: bool = False) -> BenchmarkRecord:
    """Gives a benchmark's models the trunks (and the config's names) of the committed runs of RetinaNet."""
    models = []
    for model in record.models:
        trunk = model.name.removeprefix("retinanet_").removesuffix("_invented")
        run = read_record(RECORDS / f"retinanet_{trunk}_seed0" / "run.json")
        found, parts = run.backbone, run.complexity.parameters
        arguments = found.arguments if whole else found.arguments | {"out_indices": [0, 1, 2, 3]}
        backbone = Backbone(name=found.name, type=found.type, arguments=arguments)
        around = {name: count for name, count in parts.items() if name != "backbone"} if whole else {}
        changes = dict(backbone=backbone, whole=whole, parameters={**model.parameters, **around})
        models.append(model.model_copy(update=changes))
    return record.model_copy(update=dict(models=tuple(models)))


def speeds(leaderboard: Leaderboard) -> dict[str, tuple[float | None, float | None]]:
    """Of RetinaNet's rows by trunk."""
    rows = next(table.rows for table in leaderboard.tables if table.framework == "retinanet")
    return {row.backbone: (row.latency_ms, row.throughput) for row in rows}


def test_rows_have_the_latency_and_throughput_of_their_trunks(work_dirs: Path, benchmark: Make) -> None:
    record = as_runs(benchmark({"fvnet_t": 20.0, "mobilenet_v2": 10.0}))
    write_benchmark(record, work_dirs / "speed" / "benchmark.json")
    leaderboard = build_leaderboard([work_dirs], published=False)
    found = speeds(leaderboard)
    assert found["fvnet_t"] == (20.0, pytest.approx(40.0))
    assert found["mobilenet_v2"] == (10.0, pytest.approx(80.0))
    assert {found[name] for name in found if name not in ("fvnet_t", "mobilenet_v2")} == {(None, None)}
    note = "trunk at 64x64, Example CPU, torch 2.15.0, float32, 2 threads, trunks fused, throughput at batch 4"
    assert f"- speed: {note}" in render_markdown(leaderboard)
    assert f"Latency and throughput: {note}." in render_page(leaderboard)


def test_other_conditions_are_left_out_and_said(work_dirs: Path, benchmark: Make, conditions: Conditions) -> None:
    """Most rows decide; the same trunk under other conditions, faster as it may be, stays out of the table."""
    bf16 = conditions.model_copy(update=dict(precision="bf16"))
    write_benchmark(as_runs(benchmark({"fvnet_t": 20.0, "fvnet_s": 30.0})), work_dirs / "a" / "benchmark.json")
    other = as_runs(benchmark({"mobilenet_v2": 1.0}, conditions=bf16))
    write_benchmark(other, work_dirs / "b" / "benchmark.json")
    leaderboard = build_leaderboard([work_dirs], published=False)
    assert speeds(leaderboard)["mobilenet_v2"] == (None, None)
    assert speeds(leaderboard)["fvnet_s"] == (30.0, pytest.approx(800 / 30))
    table = next(table for table in leaderboard.tables if table.framework == "retinanet")
    (left_out,) = table.speeds_left_out
    assert left_out == ("trunk at 64x64, Example CPU, torch 2.15.0, bf16, 2 threads, trunks fused (b/benchmark.json)")
    assert "speeds under other conditions, left out: trunk at 64x64" in render_markdown(leaderboard)
    assert f"left out: {left_out}" in render_page(leaderboard)
    notes = {row.speed_note for row in table.rows if row.latency_ms is not None}
    assert len(notes) == 1


def test_whole_models_go_before_trunks_and_newer_before_older(work_dirs: Path, benchmark: Make) -> None:
    write_benchmark(as_runs(benchmark({"fvnet_t": 1.0})), work_dirs / "a" / "benchmark.json")
    for name, ms, year in (("b", 70.0, 2027), ("c", 80.0, 2026)):
        record = benchmark({"retinanet_fvnet_t_invented": ms}, parts=("predict",), batches=(1,))
        record = as_runs(record, whole=True).model_copy(update=dict(updated=datetime(year, 1, 1, tzinfo=timezone.utc)))
        write_benchmark(record, work_dirs / name / "benchmark.json")
    assert speeds(build_leaderboard([work_dirs], published=False))["fvnet_t"] == (70.0, pytest.approx(800 / 70))


def test_another_neck_around_the_trunk_is_another_model(work_dirs: Path, benchmark: Make) -> None:
    record = as_runs(benchmark({"retinanet_fvnet_t_invented": 70.0}, parts=("predict",)), whole=True)
    (model,) = record.models
    wider = model.model_copy(update=dict(parameters=model.parameters | {"neck": model.parameters["neck"] + 1}))
    write_benchmark(record.model_copy(update=dict(models=(wider,))), work_dirs / "a" / "benchmark.json")
    assert speeds(build_leaderboard([work_dirs], published=False))["fvnet_t"] == (None, None)


def test_another_trunk_of_that_name_and_training_steps_do_not_count(
    work_dirs: Path, benchmark: Make, conditions: Conditions
) -> None:
    record = as_runs(benchmark({"fvnet_t": 20.0}))
    (model,) = record.models
    arch = Backbone(name="fvnet_t", type=model.backbone.type, arguments={"arch": "another"})
    altered = record.model_copy(update=dict(models=(model.model_copy(update=dict(backbone=arch)),)))
    write_benchmark(altered, work_dirs / "a" / "benchmark.json")
    training = conditions.model_copy(update=dict(training=True))
    write_benchmark(record.model_copy(update=dict(conditions=training)), work_dirs / "b" / "benchmark.json")
    assert set(speeds(build_leaderboard([work_dirs], published=False)).values()) == {(None, None)}


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        (dict(norm_eval=True), True),
        (dict(with_cp=True), True),
        (dict(drop_path_rate=0.1), True),
        (dict(frozen_stages=1), True),
        (dict(tau=(1.0, 4.0)), False),
    ],
)
def test_arguments_of_training_make_no_other_trunk(arguments: dict[str, object], same: bool, benchmark: Make) -> None:
    run = read_record(RECORDS / "retinanet_fvnet_t_seed0" / "run.json")
    (model,) = as_runs(benchmark({"fvnet_t": 20.0})).models
    trained = run.backbone.model_copy(update=dict(arguments=run.backbone.arguments | arguments))
    assert is_of(model, run.model_copy(update=dict(backbone=trained))) == same


def test_a_whole_model_is_that_of_its_config(benchmark: Make) -> None:
    run = read_record(RECORDS / "retinanet_fvnet_t_seed0" / "run.json")
    (model,) = as_runs(benchmark({run.config.name: 70.0}, parts=("predict",)), whole=True).models
    assert is_of(model, run)
    assert not is_of(model.model_copy(update=dict(name="retinanet_fvnet_t_3x")), run)


@pytest.mark.parametrize("training", [False, True])
def test_versions_matter_where_there_are_speeds_of_rows(
    training: bool, benchmark: Make, conditions: Conditions
) -> None:
    run = read_record(RECORDS / "retinanet_fvnet_t_seed0" / "run.json")
    record = as_runs(benchmark({"fvnet_t": 20.0}, conditions=conditions.model_copy(update=dict(training=training))))
    (model,) = record.models
    backbone = model.backbone.model_copy(update=dict(arguments=run.backbone.arguments))
    other = record.model_copy(update=dict(models=(model.model_copy(update=dict(backbone=backbone, trained=7)),)))
    problems = version_problems([run], [FoundBenchmark("a/benchmark.json", other)])
    assert [problem.partition(": ")[0] for problem in problems] == ["a/benchmark.json"] * (not training)


@pytest.mark.parametrize(("timed", "counts"), [("a" * 64, True), (None, True), ("b" * 64, False)])
def test_a_trunk_of_other_code_is_another_version(
    work_dirs: Path, benchmark: Make, timed: str | None, counts: bool
) -> None:
    def coded(backbone: Backbone, code: str | None) -> dict[str, Backbone]:
        return dict(backbone=backbone.model_copy(update=dict(source_sha256=code)))

    for file in work_dirs.glob("retinanet_fvnet_t_*/run.json"):
        run = read_record(file)
        write_record(run.model_copy(update=coded(run.backbone, "a" * 64)), file)
    record = as_runs(benchmark({"fvnet_t": 20.0}))
    (model,) = record.models
    models = (model.model_copy(update=coded(model.backbone, timed)),)
    write_benchmark(record.model_copy(update=dict(models=models)), work_dirs / "a" / "benchmark.json")
    leaderboard = build_leaderboard([work_dirs], published=False)
    assert (speeds(leaderboard)["fvnet_t"] != (None, None)) == counts
    problems = [problem for problem in leaderboard.problems if "SHA-256 bbbbbbbb, not aaaaaaaa" in problem]
    assert bool(problems) != counts


def describe_as(work_dirs: Path, kind: str, arguments: dict[str, object]) -> None:
    """Leaves of the committed runs RetinaNet's, those of FVNet-T with a trunk of this class and these arguments."""
    for folder in work_dirs.glob("semantic_fpn_*"):
        shutil.rmtree(folder)
    for file in work_dirs.glob("retinanet_fvnet_t_*/run.json"):
        backbone = Backbone(name="fvnet_t", type=kind, arguments=arguments)
        write_record(read_record(file).model_copy(update=dict(backbone=backbone)), file)


NORM = 2 * FVNet.stage_channels("t")[0]
"""Parameters of the output norm that FVNet-T has where stride 4 is read: RetinaNet does not."""


@pytest.mark.parametrize(
    ("known", "difference", "said"),
    [
        (True, 0, None),
        (True, NORM, None),
        (True, 1, f"(3,900,001 parameters of the trunk as it is trained, not {3_900_000 + NORM:,})"),
        (True, NORM + 1, f"({3_900_001 + NORM:,} parameters of the trunk as it is trained, not {3_900_000 + NORM:,})"),
        (False, NORM - 1, None),
        (False, NORM + 1, f"(at least {3_900_001 + NORM:,} parameters"),
    ],
)
def test_a_trunk_has_the_speed_of_its_own_version(
    work_dirs: Path, benchmark: Make, known: bool, difference: int, said: str | None
) -> None:
    """Told by the parameters, as the trunk is trained or at least as it was timed; other stages have other norms."""
    describe_as(work_dirs, "FVNet", {"arch": "t", "out_indices": [1, 2, 3]})
    record = as_runs(benchmark({"fvnet_t": 20.0}))
    (model,) = record.models
    count = 3_900_000 + difference
    model = model.model_copy(update={"trained": count} if known else {"parameters": {"backbone": count}})
    write_benchmark(record.model_copy(update=dict(models=(model,))), work_dirs / "speed" / "benchmark.json")
    leaderboard = build_leaderboard([work_dirs], published=False)
    assert speeds(leaderboard)["fvnet_t"] == ((20.0, 40.0) if said is None else (None, None))
    problems = leaderboard.problems
    assert len(problems) == (said is not None)
    assert all(said in problem and problem.startswith("speed/benchmark.json: its fvnet_t is") for problem in problems)


def test_a_trunk_that_cannot_be_counted_is_named(work_dirs: Path, benchmark: Make) -> None:
    describe_as(work_dirs, "Unheard", {"out_indices": [1, 2, 3]})
    record = as_runs(benchmark({"fvnet_t": 20.0}))
    (model,) = record.models
    backbone = Backbone(name="fvnet_t", type="Unheard", arguments={"out_indices": [0, 1, 2, 3]})
    model = model.model_copy(update=dict(backbone=backbone, trained=3_900_096))
    write_benchmark(record.model_copy(update=dict(models=(model,))), work_dirs / "speed" / "benchmark.json")
    leaderboard = build_leaderboard([work_dirs], published=False)
    assert speeds(leaderboard)["fvnet_t"] == (None, None)
    (problem,) = leaderboard.problems
    assert "nothing tells whether the stages that are read make the difference" in problem
    assert "'Unheard' that is not registered" in problem


def test_benchmarks_of_one_setting_are_joined_and_the_newest_counts_for_each_batch(
    work_dirs: Path, benchmark: Make
) -> None:
    for day, (ms, batches) in enumerate([(20.0, (1, 8)), (10.0, (8, 32)), (5.0, (64,))], 1):
        record = as_runs(benchmark({"mobilenet_v2": ms}, batches=batches))
        record = record.model_copy(update=dict(updated=datetime(2026, 1, day, tzinfo=timezone.utc)))
        write_benchmark(record, work_dirs / f"of_day_{day}" / "benchmark.json")
        expected = {1: (20.0, 40.0), 2: (20.0, 80.0), 3: (20.0, 160.0)}[day]
        assert speeds(build_leaderboard([work_dirs], published=False))["mobilenet_v2"] == expected
    record = as_runs(benchmark({"fvnet_t": 40.0}, batches=(8,)))
    write_benchmark(record, work_dirs / "of_another" / "benchmark.json")
    found = speeds(build_leaderboard([work_dirs], published=False))
    assert found["mobilenet_v2"] == (20.0, 80.0)  # at batch 8, which both have
    assert found["fvnet_t"] == (None, 20.0)


def test_damaged_benchmark_is_named_and_the_rest_tabulated(work_dirs: Path, benchmark: Make) -> None:
    file = work_dirs / "a" / "benchmark.json"
    write_benchmark(as_runs(benchmark({"fvnet_t": 20.0})), file)
    file.write_text(file.read_text()[:-9])
    leaderboard = build_leaderboard([work_dirs], published=False)
    assert len(leaderboard.tables) == 2
    (problem,) = leaderboard.problems
    assert problem.startswith("a/benchmark.json: is not JSON")


def test_rows_without_a_benchmark_keep_what_their_records_say(row: Callable[..., Row]) -> None:
    rows = (row(0), row(1))
    assert with_speeds(rows, {}, ()) == (rows, ())
