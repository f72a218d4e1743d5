import json
from pathlib import Path

import pytest
from scipy import stats

from fvnet_mm.errors import UserError
from fvnet_mm.records import Backbone, Complexity, Config, Environment, Weights
from fvnet_mm.records.reading import read_record
from fvnet_mm.report.leaderboard.reproduce import (
    describe_row,
    find_row,
    find_runs,
    judge,
    prediction_interval,
    run_of,
)


@pytest.fixture
def work_dirs(tmp_path: Path) -> Path:
    return tmp_path / "work_dirs"


def test_a_row_is_found_by_the_beginning_of_its_name(write_run, work_dirs):
    write_run("a", seed=1)
    write_run("b", seed=0)
    write_run("c", backbone=Backbone(name="fvnet_s"))
    assert [run.name for run in find_row("retinanet-fvnet_t", [work_dirs])] == ["b/run.json", "a/run.json"]
    with pytest.raises(UserError, match=r"2 rows below .* begin with 'retinanet'"):
        find_row("retinanet", [work_dirs])
    with pytest.raises(UserError, match=r"no row below .* is called 'upernet'; .*retinanet-fvnet_s-.* --folders"):
        find_row("upernet", [work_dirs])
    for folder in (work_dirs, work_dirs / "b" / "empty"):
        folder.mkdir(exist_ok=True)
        with pytest.raises(UserError, match=r"w/nothere is neither a folder with a record nor a row: .* --folders"):
            find_runs("w/nothere", [folder])
    with pytest.raises(UserError, match="is a published row"):
        find_row("published-retinanet-resnet50-01234567", [work_dirs])


def test_a_row_whose_runs_all_claim_one_seed_is_told_of(write_run, work_dirs):
    for name in ("a", "b"):
        write_run(name, seed=0)
    write_run("c", backbone=Backbone(name="fvnet_s"))
    with pytest.raises(UserError, match="2 records claim seed 0 of retinanet-fvnet_t-"):
        find_row("retinanet-fvnet_t", [work_dirs])


def test_runs_are_work_dirs_or_a_row(write_run, work_dirs):
    first, second = write_run("a", seed=0), write_run("b", seed=1)
    other = write_run("c", backbone=Backbone(name="fvnet_s"))
    files = [run.file for run in find_runs(f"{first.parent},{second}", [])]
    assert files == [first, second]
    assert [run.file for run in find_runs("retinanet-fvnet_t", [work_dirs])] == files
    with pytest.raises(UserError, match="are runs of 2 rows"):
        find_runs(f"{first.parent},{other.parent}", [])
    with pytest.raises(UserError, match="cannot be read"):
        find_runs(f"{first.parent},{work_dirs / 'nowhere'}", [])


def test_a_work_dir_may_have_a_comma_in_its_name(write_run):
    file = write_run("lr=1e-4,wd=0")
    assert [run.file for run in find_runs(str(file.parent), [])] == [file]


def test_everything_that_decides_a_result_is_told(write_run, work_dirs):
    weights = Weights(part="backbone", source="weights/fvnet_t.pth", sha256="f" * 64, share=0.995)
    machine = Environment(versions={"torch": "2.6.0"}, device="a device", git_commit="abcdef", git_dirty=True)
    file = write_run("a", seed=3, AP=31.0, weights=(weights,), environment=machine, command=("python", "a b.py"))
    record = read_record(file)
    text = describe_row(find_row("retinanet", [work_dirs]))
    for fact in (
        "python 'a b.py'",
        f"{record.config.file} (SHA-256 {record.config.sha256})",
        f"99.5% of backbone from weights/fvnet_t.pth (SHA-256 {'f' * 64})",
        "training 40 images (0000example1), validation 10 images (0000example2)",
        "abcdef with uncommitted changes",
        "torch 2.6.0",
        record.checkpoint_sha256,
        record.protocol.fingerprint,
        "seed 3",
    ):
        assert fact in text


def test_what_an_imported_record_does_not_know_is_unknown(write_run, work_dirs):
    write_run("a", origin="imported", seed=None, command=(), data=None, environment=Environment())
    facts = dict(line.split(maxsplit=1) for line in describe_row(find_row("r", [work_dirs])).splitlines() if line)
    for name in ("command", "weights", "data", "commit", "versions"):
        assert facts[name] == "unknown"


def test_prediction_interval_covers_as_it_says():
    """Of one more value of the same distribution, for five values."""
    random = stats.norm(30, 0.5)
    draws = random.rvs(size=(4000, 6), random_state=0)
    inside = [low <= one_more <= high for *five, one_more in draws for low, high in [prediction_interval(five)]]
    assert sum(inside) / len(inside) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize(("AP", "within"), [(31.9, True), (33.5, False), (28.0, False)])
def test_repetition_of_a_row_with_seeds_is_judged_by_their_spread(write_run, work_dirs, tmp_path, AP, within):
    for seed, value in enumerate((31.0, 31.5, 30.6, 31.2)):
        write_run(f"run{seed}", seed=seed, AP=value)
    again = write_run("../again", seed=9, AP=AP)
    verdict = judge(find_row("retinanet", [work_dirs]), run_of(again.parent))
    assert verdict.within is within
    assert verdict.sentence.startswith("within" if within else "outside")


def test_runs_without_any_spread_are_judged_by_images(write_predicted_run, work_dirs):
    for seed in (0, 1):
        write_predicted_run(f"run{seed}", 0, seed=seed)
    again = write_predicted_run("../again", 3, seed=2)
    verdict = judge(find_row("retinanet", [work_dirs]), run_of(again))
    assert verdict.within
    assert "30 validation images" in verdict.sentence


def test_a_repetition_may_lie_among_the_runs_that_it_repeats(write_run, work_dirs):
    for seed, value in enumerate((31.0, 31.5, 30.6)):
        write_run(f"run{seed}", seed=seed, AP=value)
    again = run_of(write_run("again", seed=1, AP=40.0).parent)
    row = find_row("retinanet", [work_dirs], again)
    assert [run.name for run in row] == ["run0/run.json", "run1/run.json", "run2/run.json"]
    assert not judge(row, again).within
    assert len(find_row("retinanet", [work_dirs])) == 2  # nothing says which of the two is seed 1


def test_a_repetition_of_nothing(write_run, work_dirs):
    again = run_of(write_run("again", seed=1).parent)
    name = find_row("retinanet", [work_dirs])[0].record.framework
    with pytest.raises(UserError, match="is the only run of its row"):
        find_row(name, [work_dirs], again)
    with pytest.raises(UserError, match=r"holds no run\.json"):
        run_of(work_dirs)


def test_an_unfinished_repetition_says_nothing(write_run, work_dirs):
    write_run("run", seed=0)
    again = run_of(write_run("../again", seed=1, status="running").parent)
    with pytest.raises(UserError, match="has not finished"):
        judge(find_row("retinanet", [work_dirs]), again)


@pytest.mark.parametrize(("missed", "within"), [(0, True), (3, True), (4, False), (30, False)])
def test_repetition_of_one_run_is_judged_by_its_images(write_predicted_run, work_dirs, missed, within):
    """(1 - 3/30)**30 is 4.2 % and (1 - 4/30)**30 1.4 %: only the first leaves a difference of 0 in the interval."""
    write_predicted_run("run", 0)
    again = write_predicted_run("../again", missed, seed=1)
    verdict = judge(find_row("retinanet", [work_dirs]), run_of(again))
    assert verdict.within is within
    assert "30 validation images" in verdict.sentence


def test_what_cannot_be_judged(write_run, write_predicted_run, work_dirs):
    row = [run_of(write_predicted_run("run", 0))]
    with pytest.raises(UserError, match="is one of the runs behind the row"):
        judge(row, row[0])
    other = write_predicted_run("../other", 0, protocol=dict(learning_rate=0.5))
    with pytest.raises(UserError, match=r"another row than this one: the row has learning rate 0.0001 and not 0.5"):
        judge(row, run_of(other))
    trunk = write_predicted_run("../trunk", 0, backbone=Backbone(name="fvnet_s"))
    with pytest.raises(UserError, match="another trunk"):
        judge(row, run_of(trunk))
    again = run_of(write_predicted_run("../again", 0))
    with pytest.raises(UserError, match="has no mIoU; it has AP"):
        judge(row, again, "mIoU")
    (again.folder / "predictions.bbox.json").unlink()
    with pytest.raises(UserError, match="predictions"):
        judge(row, again)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("complexity", Complexity(parameters={"backbone": 1234}), "parameters in its trunk and not 1234"),
        ("complexity", None, "parameters in its trunk and not unknown"),
        ("backbone", Backbone(name="fvnet_t", type="FVNet", arguments=dict(arch="t"), source_sha256="1" * 64), "code"),
        ("weights", (Weights(part="backbone", source="a.pth", sha256="1" * 64),), "other initial weights"),
        ("framework", "mask_rcnn", "framework retinanet and not mask_rcnn"),
    ],
)
def test_a_repetition_of_another_row_is_refused(write_run, work_dirs, field, value, reason):
    row = [run_of(write_run(f"run{seed}", seed=seed, AP=31.0 + seed)) for seed in range(2)]
    again = run_of(write_run("../again", seed=2, AP=31.0, **{field: value}))
    with pytest.raises(UserError, match=f"repeats another row than this one: the row has .*{reason}"):
        judge(row, again)


def test_a_repetition_may_have_a_config_of_its_own(write_run, work_dirs):
    row = [run_of(write_run(f"run{seed}", seed=seed, AP=31.0 + seed)) for seed in range(2)]
    assert judge(row, run_of(write_run("../again", seed=2, AP=31.0, config=Config(name="mine")))).within


def test_moved_ground_truth_is_named(write_predicted_run, tmp_path):
    runs = [run_of(write_predicted_run(name, 0)) for name in ("run", "../again")]
    moved = (tmp_path / "truth.json").rename(tmp_path / "moved.json")
    assert json.loads(moved.read_text())["images"]
    with pytest.raises(UserError, match="ground truth"):
        judge(runs[:1], runs[1])
    assert judge(runs[:1], runs[1], ground_truth=moved).within
