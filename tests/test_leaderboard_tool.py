"""tools/leaderboard.py as its user starts it: a process of its own, in another folder."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECORDS, EXPECTED = (ROOT / "tests" / "report" / "leaderboard" / name for name in ("records", "expected"))

Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def start(start_tool: Start) -> Start:
    """Starts the tool in an empty folder."""
    return partial(start_tool, "leaderboard")


@pytest.fixture
def work_dirs(tmp_path: Path) -> Path:
    """A copy of the committed examples."""
    return shutil.copytree(RECORDS, tmp_path / "work_dirs")


def test_help_of_every_command_imports_nothing_heavy(start: Start, heavy_imports: Callable[[str], set[str]]) -> None:
    flags: set[str] = set()
    for words in ([], ["build"], ["import"], ["compare"], ["reproduce"]):
        done = start(*words, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        flags |= set(re.findall(r"--[a-z][a-z-]+", done.stdout))
    explained = re.findall(r"--[a-z][a-z-]+", (ROOT / "docs" / "leaderboard.md").read_text())
    assert {"--check", "--strict", "--ground-truth", "--against"} <= set(explained) <= flags
    assert heavy_imports("leaderboard") == set()


def test_committed_leaderboard_is_fresh(start: Start) -> None:
    """What a repository that commits its leaderboard runs in CI."""
    done = start(RECORDS, "--out", EXPECTED, "--no-html", "--check", "--strict")
    again = f"write it again: python tools/leaderboard.py {RECORDS} --out {EXPECTED} --no-html --no-figures"
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{again}"


def test_check_tells_stale_and_missing_files(start: Start, work_dirs: Path, tmp_path: Path) -> None:
    done = start("work_dirs", "--no-html", "--no-figures")
    assert done.returncode == 0
    assert done.stdout == "6 rows in 2 tables: 4 files in leaderboard\n"
    assert start("work_dirs", "--no-html", "--check").returncode == 0

    record = work_dirs / "retinanet_fvnet_t_seed0" / "run.json"
    record.write_text(record.read_text().replace('"AP": 31.2', '"AP": 31.9'))
    before = {file: file.read_bytes() for file in (tmp_path / "leaderboard").iterdir()}
    done = start("work_dirs", "--no-html", "--check")
    assert done.returncode == 1
    assert {line.removesuffix(" is stale") for line in done.stdout.splitlines()} == {
        f"leaderboard/leaderboard.{kind}" for kind in ("md", "csv", "tex", "json")
    }
    assert {file: file.read_bytes() for file in (tmp_path / "leaderboard").iterdir()} == before

    assert start("work_dirs", "--no-html", "--no-figures").returncode == 0
    (tmp_path / "leaderboard" / "leaderboard.tex").unlink()
    done = start("work_dirs", "--no-html", "--check")
    assert (done.returncode, done.stdout) == (1, "leaderboard/leaderboard.tex is stale\n")


def spoil(work_dirs: Path) -> dict[str, str]:
    """Makes one record bad in each way; returns what is to be said of it, by its name."""
    examples = [work_dirs / f"retinanet_fvnet_t_seed{seed}" / "run.json" for seed in range(3)]
    text = examples[0].read_text()
    bad = {
        "cut": text[: len(text) // 2],
        "future": text.replace('"schema_version": 1', '"schema_version": 99'),
        "nan": text.replace('"AP": 31.2', '"AP": NaN'),
        "twin": examples[1].read_text().replace('"epoch_12.pth"', '"epoch_11.pth"'),
        "stranger": examples[2].read_text(),
    }
    for name, changed in bad.items():
        (work_dirs / name).mkdir()
        (work_dirs / name / "run.json").write_text(changed)
    content = json.loads(bad["stranger"])
    kept = {"kind": "coco_boxes", "path": "boxes.json", "ground_truth": str(work_dirs / "truth.json")}
    content["result"]["predictions"] = [kept]
    (work_dirs / "stranger" / "run.json").write_text(json.dumps(content))
    (work_dirs / "stranger" / "boxes.json").write_text('[{"image_id": 7, "category_id": 1}]')
    (work_dirs / "truth.json").write_text('{"images": [{"id": 1}]}')
    return {
        "cut/run.json": "cut short",
        "future/run.json": "newer",
        "nan/run.json": "finite",
        "twin/run.json": "2 records claim seed 1",
        "stranger/run.json": "another data set: image 7 is not in truth.json",
    }


def test_bad_records_are_named_the_rest_tabulated_and_strict_says_no(start: Start, work_dirs: Path) -> None:
    expected = spoil(work_dirs)
    done = start("work_dirs", "--no-html", "--no-figures")
    assert done.returncode == 0
    problems = done.stderr.splitlines()
    assert len(problems) == len(expected)
    for name, reason in expected.items():
        (problem,) = (line for line in problems if name in line)
        assert problem.startswith("problem: ")
        assert reason in problem
    page = (work_dirs.parent / "leaderboard" / "leaderboard.md").read_text()
    assert re.search(r"\| FVNet-T .* 2 \|", page)  # seeds 0 and 2; two records claim seed 1
    assert page.count("\n- ") >= len(expected)
    assert start("work_dirs", "--no-html", "--no-figures", "--strict").returncode == 1
    assert start("work_dirs", "--no-html", "--check").returncode == 0
    assert start("work_dirs", "--no-html", "--check", "--strict").returncode == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["."], "there is no run.json below ."),
        (["compare", "a", "b", "--folders", "."], "there is no run.json"),
        (["reproduce", "a"], "work_dirs is not a folder"),
        (["import", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_end_in_one_sentence(start: Start, tmp_path: Path, words: list[str], sentence: str) -> None:
    done = start(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def add_predictions(work_dir: Path, missed: int) -> None:
    """Of ten images with one circle each, some of which are missed."""
    truth, box = work_dir.parent / "truth.json", [10, 10, 40, 40]
    images = range(1, 11)
    document = dict(
        images=[dict(id=i, file_name=f"{i}.jpg", width=100, height=100) for i in images],
        annotations=[dict(id=i, image_id=i, category_id=1, bbox=box, area=1600, iscrowd=0) for i in images],
        categories=[dict(id=i, name=name) for i, name in enumerate(("circle", "square", "star"), 1)],
    )
    truth.write_text(json.dumps(document))
    found = [dict(image_id=i, category_id=1, bbox=box, score=0.5) for i in images if i > missed]
    (work_dir / "boxes.json").write_text(json.dumps(found))
    record = json.loads((work_dir / "run.json").read_text())
    record["data"]["val"]["fingerprint"] = None
    record["result"]["predictions"] = [dict(kind="coco_boxes", path="boxes.json", ground_truth=str(truth))]
    (work_dir / "run.json").write_text(json.dumps(record))


def test_compare_and_reproduce(start: Start, work_dirs: Path) -> None:
    for name, missed in (("fvnet_s_seed0", 0), ("mobilenet_v2_seed0", 9)):
        add_predictions(work_dirs / f"retinanet_{name}", missed)
    sides = ("work_dirs/retinanet_mobilenet_v2_seed0", "work_dirs/retinanet_fvnet_s_seed0")
    done = start("compare", *sides, "--resamples", 500, "--json", "comparison.json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no terminal, no progress
    difference, *_ = json.loads((work_dirs.parent / "comparison.json").read_text())["metrics"]
    low, high = difference["interval"]["low"], difference["interval"]["high"]
    assert 0 < low < difference["difference"] < high
    assert f"{low:.2f}" in done.stdout
    assert f"{high:.2f}" in done.stdout

    done = start("compare", "retinanet-mobilenet_v2", "semantic_fpn-fvnet_t")
    assert done.returncode == 2

    row = "retinanet-mobilenet_v2"
    done = start("reproduce", row)
    assert done.returncode == 0
    assert "python tools/train.py configs/retinanet_mobilenet_v2_invented.py" in done.stdout
    again = shutil.copytree(work_dirs / "retinanet_mobilenet_v2_seed0", work_dirs.parent / "again")
    done = start("reproduce", row, "--against", "again")
    assert done.returncode == 0, done.stderr
    assert "within the noise" in done.stdout
    add_predictions(work_dirs / "retinanet_fvnet_s_seed0", 0)
    shutil.copy(work_dirs / "retinanet_fvnet_s_seed0" / "boxes.json", again)
    done = start("reproduce", row, "--against", "again", "--ground-truth", "work_dirs/truth.json")
    assert done.returncode == 1
    assert "outside the noise" in done.stdout


def test_a_reader_that_leaves_early(work_dirs: Path, tmp_path: Path) -> None:
    """As in ``leaderboard.py compare ... | head``: no traceback."""
    row = json.loads((EXPECTED / "leaderboard.json").read_text())["tables"][0]["rows"][0]["id"]
    script = f"{sys.executable} {ROOT / 'tools' / 'leaderboard.py'} reproduce {row} --folders work_dirs | true"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Error" not in done.stderr


def test_places_that_cannot_be_written(start: Start, work_dirs: Path) -> None:
    stock = work_dirs.parent / "stock"
    stock.mkdir()
    done = start("import", "stock", "--out", "stock/nowhere/run.json")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
