import itertools
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fvnet_mm.records import Backbone, ClassResult, Config, Evaluation, Result, Times, Weights
from fvnet_mm.records.reading import read_record
from fvnet_mm.report.leaderboard.collecting import FoundRun, collect
from fvnet_mm.report.leaderboard.rows import group_runs, make_row, row_id
from fvnet_mm.report.leaderboard.tables import build_leaderboard

RECORDS = Path(__file__).with_name("records")


def rows_of(folder: Path):
    collection = collect([folder])
    groups, conflicts = group_runs(collection.runs)
    problems = [*collection.problems, *itertools.chain(*conflicts.values())]
    return {name: make_row(name, runs) for name, runs in groups.items()}, problems


def only_row(folder: Path):
    rows, problems = rows_of(folder)
    (row,) = rows.values()
    return row, problems


def test_seeds_make_mean_and_sample_deviation(write_run, tmp_path):
    values = {0: 31.0, 1: 32.5, 2: 30.1}
    for seed, value in values.items():
        write_run(f"run{seed}", seed=seed, AP=value)
    row, problems = only_row(tmp_path)
    assert problems == []
    assert row.metrics["AP"].mean == pytest.approx(statistics.mean(values.values()), abs=1e-6)
    assert row.metrics["AP"].std == pytest.approx(statistics.stdev(values.values()), abs=1e-6)
    assert row.metrics["AP"].n == 3
    assert "AP_L" not in row.metrics  # undefined in all
    assert [run.seed for run in row.runs] == [0, 1, 2]
    assert row.label == "FVNet-T"


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_mean_and_deviation_of_any_runs(values):
    """Against the exact arithmetic of the standard library."""
    example = read_record(RECORDS / "retinanet_fvnet_t_seed0" / "run.json")
    runs = [
        FoundRun(f"{seed}", Path(f"{seed}/run.json"), example.model_copy(update=dict(seed=seed, result=result)))
        for seed, value in enumerate(values)
        for result in [Result(metrics={"AP": value}, per_class=(ClassResult(name="a", metrics={"AP": value}),))]
    ]
    row = make_row("row", runs[::-1])
    assert row.metrics["AP"].mean == pytest.approx(statistics.mean(values), abs=1e-6)
    assert row.per_class["a"]["AP"] == pytest.approx(statistics.mean(values), abs=1e-6)
    if len(values) > 1:
        assert row.metrics["AP"].std == pytest.approx(statistics.stdev(values), abs=1e-6)
    else:
        assert row.metrics["AP"].std is None
    assert row.metrics["AP"].n == len(values)


def test_class_that_is_undefined_in_a_run_has_no_mean(write_run, tmp_path):
    for seed, value in enumerate((10.0, None)):
        classes = (ClassResult(name="a", metrics={"AP": value}), ClassResult(name="b", metrics={"AP": 20.0 + seed}))
        write_run(f"run{seed}", seed=seed, result=Result(metrics={"AP": 20.0}, per_class=classes[: 2 - seed]))
    row, _ = only_row(tmp_path)
    assert row.per_class == {"a": {"AP": None}, "b": {"AP": None}}


def test_two_versions_of_a_trunk_are_two_rows(write_run, tmp_path):
    """They have the same name and arguments; what an earlier version built from them has more parameters."""
    example = read_record(RECORDS / "retinanet_fvnet_t_seed0" / "run.json").complexity
    for seed, parameters in enumerate((3_670_000, 3_970_000)):
        write_run(f"run{seed}", complexity=example.model_copy(update=dict(parameters={"backbone": parameters})))
    (table,) = build_leaderboard([tmp_path]).tables
    assert sorted(row.label for row in table.rows) == ["FVNet-T (3.67 M)", "FVNet-T (3.97 M)"]


def test_labels_that_would_still_be_alike_have_a_digest(write_run, tmp_path):
    example = read_record(RECORDS / "retinanet_fvnet_t_seed0" / "run.json").complexity
    for number, (parameters, other) in enumerate(((3_670_000, {}), (3_970_000, {}), (3_670_000, dict(with_cp=True)))):
        backbone = Backbone(name="fvnet_t", type="FVNet", arguments=dict(arch="t", **other))
        complexity = example.model_copy(update=dict(parameters={"backbone": parameters}))
        write_run(f"run{number}", complexity=complexity, backbone=backbone)
    (table,) = build_leaderboard([tmp_path]).tables
    labels = [row.label for row in table.rows]
    assert len(set(labels)) == 3, labels
    assert all(label.startswith("FVNet-T (with_cp=") for label in labels)


@pytest.mark.parametrize(
    "words", [("--cfg-options", "model.backbone.norm_eval=True"), ("--cfg-options=model.backbone.norm_eval=True",)]
)
def test_what_the_command_line_changed_in_a_trunk_is_named(write_run, tmp_path, words):
    write_run("run", command=("python", "tools/train.py", "a.py", *words))
    row, _ = only_row(tmp_path)
    assert row.label == "FVNet-T (norm_eval=True)"


def test_what_a_trunk_starts_from_is_no_change_of_it(write_run, tmp_path):
    words = ("--weights", "a.pth", "--cfg-options", "model.backbone.init_cfg.distilled=False")
    write_run("run", command=("python", "tools/train.py", "a.py", *words))
    row, _ = only_row(tmp_path)
    assert row.label == "FVNet-T"


def test_other_code_of_a_trunk_is_another_row(write_run, tmp_path):
    for seed, code in enumerate(("a" * 64, "b" * 64)):
        backbone = Backbone(name="mine", type="MyNet", source_sha256=code)
        write_run(f"run{seed}", seed=seed, backbone=backbone)
    (table,) = build_leaderboard([tmp_path]).tables
    assert sorted(row.label for row in table.rows) == ["mine (code aaaaaaaa)", "mine (code bbbbbbbb)"]


def test_what_tells_one_of_two_rows_apart_need_not_tell_the_third(write_run, tmp_path):
    """Two are of one config, so its name names neither of them."""
    for number, (config, rate) in enumerate((("a", 0.1), ("a", 0.2), ("b", 0.1))):
        backbone = Backbone(name="fvnet_t", type="FVNet", arguments=dict(arch="t", drop_path_rate=rate))
        write_run(f"run{number}", config=Config(name=config), backbone=backbone)
    (table,) = build_leaderboard([tmp_path]).tables
    labels = {f"FVNet-T ({told})" for told in ("drop_path_rate=0.1", "drop_path_rate=0.2", "b")}
    assert {row.label for row in table.rows} == labels


def test_weights_count_by_what_they_are_not_by_where_they_lay(write_run, tmp_path):
    for seed, (source, digit) in enumerate((("here.pth", "1"), ("there.pth", "1"), ("here.pth", "2"))):
        weights = Weights(part="backbone", source=source, sha256=digit * 64)
        write_run(f"run{seed}", seed=seed, weights=(weights,))
    rows, _ = rows_of(tmp_path)
    assert sorted([run.seed for run in row.runs] for row in rows.values()) == [[0, 1], [2]]


def test_runs_of_a_row_are_in_the_order_of_their_seeds(write_run, tmp_path):
    for name, seed in (("a", None), ("b", 10), ("c", 9), ("d", 0)):
        write_run(name, seed=seed)
    row, _ = only_row(tmp_path)
    assert [run.seed for run in row.runs] == [0, 9, 10, None]


def test_sizes_are_in_millions_and_billions_of_the_trunk_and_the_model(write_run, tmp_path):
    """The example: a trunk of 3.9 million parameters and 1.2 GMACs, a neck of 1.2 and 0.4, a head of 0.8 and 0.9."""
    write_run("run")
    row, _ = only_row(tmp_path)
    assert row.parameters == pytest.approx((3.9, 5.9))
    assert row.macs == pytest.approx((1.2, 2.5))
    assert row.macs_shape == (320, 320)


def test_memory_is_the_most_of_any_run(write_run, tmp_path):
    for seed, memory in enumerate((1_500_000_000, 3_000_000_000, None)):
        write_run(f"run{seed}", seed=seed, times=Times(peak_memory=memory))
    row, _ = only_row(tmp_path)
    assert row.peak_memory_gb == 3.0


def test_training_memory_is_not_that_of_a_test(write_run, tmp_path):
    write_run("run", times=Times(peak_memory=3_000_000_000), origin="test", seed=None)
    row, _ = only_row(tmp_path)
    assert row.peak_memory_gb is None


def test_one_run_has_no_deviation(write_run, tmp_path):
    write_run("run", AP=31.0)
    row, _ = only_row(tmp_path)
    assert row.metrics["AP"].std is None


@pytest.mark.parametrize(
    "changes",
    [
        dict(protocol=dict(pretraining="plain")),
        dict(protocol=dict(learning_rate=0.3)),
        dict(backbone=Backbone(name="fvnet_s", type="FVNet", arguments=dict(arch="t"))),
        dict(backbone=Backbone(name="fvnet_t", type="FVNet", arguments=dict(arch="t", drop_path_rate=0.1))),
        dict(backbone=Backbone(name="fvnet_t", type="MyNet", arguments=dict(arch="t"))),
        dict(config=Config(name="retinanet_fvnet_t_3x")),
        dict(origin="imported"),
        dict(weights=(Weights(part="backbone", source="other.pth", sha256="1" * 64),)),
        dict(backbone=Backbone(name="fvnet_t", type="FVNet", arguments=dict(arch="t"), source_sha256="1" * 64)),
    ],
)
def test_what_sets_rows_apart(write_run, tmp_path, changes):
    write_run("a", seed=0)
    write_run("b", seed=1, **changes)
    rows, _ = rows_of(tmp_path)
    assert len(rows) == 2


def test_test_of_the_same_checkpoint_counts_once(write_run, tmp_path):
    write_run("run", AP=31.0, checkpoint_sha256="c" * 64)
    write_run("run", file="test.json", AP=31.01, checkpoint_sha256="c" * 64, origin="test")
    row, problems = only_row(tmp_path)
    assert problems == []
    assert [run.origin for run in row.runs] == ["train"]


def test_test_that_disagrees_is_named(write_run, tmp_path):
    write_run("run", AP=31.0, checkpoint_sha256="c" * 64)
    write_run("run", file="test.json", AP=29.0, checkpoint_sha256="c" * 64, origin="test")
    row, (problem,) = only_row(tmp_path)
    assert row.metrics["AP"].mean == 31.0
    assert "test.json: its AP is 29.00" in problem


def test_test_of_another_checkpoint_gives_way_to_the_training(write_run, tmp_path):
    write_run("run", AP=31.0)
    write_run("elsewhere", file="test.json", AP=25.0, origin="test", checkpoint="epoch_6.pth")
    row, (problem,) = only_row(tmp_path)
    assert row.metrics["AP"].mean == 31.0
    assert "epoch_6.pth" in problem


def test_two_records_claiming_a_seed_are_named_and_unused(write_run, tmp_path):
    write_run("a", seed=0, AP=10.0)
    write_run("b", seed=0, AP=50.0)
    write_run("c", seed=1, AP=31.0)
    row, (problem,) = only_row(tmp_path)
    assert row.metrics["AP"].mean == 31.0
    assert "work_dirs/a/run.json, work_dirs/b/run.json: 2 records claim seed 0" in problem


def test_unknown_seeds_are_no_claim(write_run, tmp_path):
    write_run("a", seed=None, AP=30.0)
    write_run("b", seed=None, AP=32.0)
    row, problems = only_row(tmp_path)
    assert problems == []
    assert row.metrics["AP"].n == 2


def test_checkpoints_from_elsewhere_are_rows_of_their_own(write_run, tmp_path):
    """Without a training's record nothing says that they are seeds of one training."""
    for name in "ab":
        write_run(name, seed=None, origin="test", checkpoint_sha256=name * 64)
    rows, problems = rows_of(tmp_path)
    assert (len(rows), problems) == (2, [])


def test_running_is_marked_and_gives_way_to_finished(write_run, tmp_path):
    write_run("killed", AP=20.0, status="running")
    row, _ = only_row(tmp_path)
    assert "not finished" in row.note
    write_run("again", AP=31.0)
    row, problems = only_row(tmp_path)
    assert problems == []
    assert (row.metrics["AP"].mean, row.note) == (31.0, None)


def test_running_says_how_far_it_has_come(write_run, tmp_path):
    evaluations = tuple(Evaluation(step=step, metrics={"AP": 20.0}) for step in (4, 8))
    write_run("run", status="running", evaluations=evaluations)
    row, _ = only_row(tmp_path)
    assert row.note == "not finished: evaluated after epoch 8 of 12"


def test_running_without_evaluation_has_an_empty_row(write_run, tmp_path):
    write_run("run", status="running", result=None, evaluations=())
    row, problems = only_row(tmp_path)
    assert problems == []
    assert row.metrics == {}
    assert row.note == "not finished: not evaluated yet"


STARTED = dict(status="running", complexity=None, result=None, evaluations=())


def test_a_seed_that_has_just_started_is_of_the_row_of_the_others(write_run, tmp_path):
    """Its parameters are counted at its first evaluation."""
    finished = write_run("seed0", seed=0, AP=31.0)
    write_run("seed1", seed=1, **STARTED)
    row, problems = only_row(tmp_path)
    assert (row.id, row.label, row.note, problems) == (row_id(read_record(finished)), "FVNet-T", None, [])
    assert [run.seed for run in row.runs] == [0]
    (table,) = build_leaderboard([tmp_path]).tables
    assert [row.label for row in table.rows] == ["FVNet-T"]


def test_of_a_row_without_a_finished_run_a_started_seed_is_one(write_run, tmp_path):
    write_run("a", seed=1, **STARTED)
    write_run("b", seed=2, status="running")
    write_run("c", seed=3, **STARTED)
    row, problems = only_row(tmp_path)
    assert (sorted(run.seed for run in row.runs), problems) == ([1, 2, 3], [])
    assert row.note.count("not evaluated yet") == 2
    assert row.parameters[0] is not None


def test_what_has_just_started_is_of_no_other_row(write_run, tmp_path):
    """Not of another config, and of neither of two versions of its trunk."""
    write_run("other", seed=0, config=Config(name="other"))
    write_run("started", seed=1, **STARTED)
    assert len(rows_of(tmp_path)[0]) == 2
    example = read_record(RECORDS / "retinanet_fvnet_t_seed0" / "run.json").complexity
    for parameters in (3_670_000, 3_970_000):
        write_run(f"{parameters}", complexity=example.model_copy(update=dict(parameters={"backbone": parameters})))
    rows, problems = rows_of(tmp_path)
    assert (len(rows), problems) == (4, [])


def test_row_does_not_depend_on_seed_or_machine(write_run):
    first = read_record(write_run("a", seed=0))
    second = read_record(write_run("b", seed=5, command=("other",)))
    assert row_id(first) == row_id(second)
    moved = first.data.model_copy(update=dict(label="elsewhere"))
    assert row_id(first) == row_id(first.model_copy(update=dict(data=moved)))  # the same fingerprint
    unknown = first.protocol.model_copy(update=dict(data=None))
    nameless = first.model_copy(update=dict(protocol=unknown))
    assert len({row_id(first), row_id(nameless), row_id(nameless.model_copy(update=dict(data=moved)))}) == 3
