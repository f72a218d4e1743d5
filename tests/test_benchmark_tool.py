"""tools/benchmark.py as its user starts it: a process of its own, in another folder."""

import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from fvnet_mm.records.benchmark_file import read_benchmark

ROOT = Path(__file__).parents[1]
TINY = ["--sizes", "32", "--batch", "1", "--rounds", "6", "--turn-seconds", "0", "--threads", "1"]

Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def start(start_tool: Start) -> Start:
    """Starts the tool in an empty folder."""
    return partial(start_tool, "benchmark")


def test_help_imports_nothing_heavy_and_every_flag_is_explained(
    start: Start, heavy_imports: Callable[[str], set[str]]
) -> None:
    done = start("--help")
    assert (done.returncode, done.stderr) == (0, "")
    flags = set(re.findall(r"--[a-z][a-z-]+[a-z0-9]", done.stdout))
    explained = set(re.findall(r"--[a-z][a-z-]+[a-z0-9]", (ROOT / "docs" / "benchmark.md").read_text()))
    assert flags - {"--help"} <= explained
    assert heavy_imports("benchmark") == set()


def test_trunks_side_by_side(start: Start, tmp_path: Path) -> None:
    """One by name, the other by the file that describes it."""
    described = (ROOT / "configs/_base_/backbones/mobilenetv4_conv_small.py").read_text()
    (tmp_path / "mine.py").write_text(described)
    done = start("starnet_s1", "mine.py", "--fuse", *TINY, "--work-dir", "out")
    assert done.returncode == 0, done.stderr[-2000:]
    record = read_benchmark(tmp_path / "out" / "benchmark.json")
    assert record.finished
    assert [model.name for model in record.models] == ["starnet_s1", "mine"]
    assert [entry.times.rounds for entry in record.measurements] == [6, 6]
    assert (record.conditions.threads, record.conditions.fused, record.conditions.isolated) == (1, True, False)
    assert record.command[2:4] == ("starnet_s1", "mine.py")
    assert "trunk, 32x32, batch 1" in done.stdout
    assert re.search(r"^starnet_s1 +1 \(baseline\)", done.stdout, re.MULTILINE)
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert files == {"benchmark.json", "ratios.svg", "ratios.png"}


def test_isolated_training_steps(start: Start, tmp_path: Path) -> None:
    """A process of its own computes what the command's process shows."""
    words = ["starnet_s1", "--isolate", "--training", *TINY, "--batch", "2", "--work-dir", "out"]
    done = start(*words)
    assert done.returncode == 0, done.stderr[-2000:]
    record = read_benchmark(tmp_path / "out" / "benchmark.json")
    assert (record.conditions.isolated, record.conditions.training, record.conditions.threads) == (True, True, 1)
    (entry,) = record.measurements
    assert (entry.case.batch, entry.times.rounds) == (2, 6)
    assert record.models[0].counted[0].total_macs > 0
    assert "trunk training step, 32x32, batch 2" in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fvnet_x"], "error: there is no backbone 'fvnet_x'"),
        (["fvnet_t", "--baseline", "fvnet_s"], "error: --baseline fvnet_s is not among the models"),
    ],
)
def test_mistake_ends_in_one_sentence_and_leaves_nothing(
    run: Callable[..., int], words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("benchmark", *words) == 2
    assert capsys.readouterr().err.startswith(sentence)
    assert list(tmp_path.iterdir()) == []


def test_benchmark_is_not_written_over(run: Callable[..., int], tmp_path: Path, capsys) -> None:
    (tmp_path / "benchmark.json").write_text("precious")
    assert run("benchmark", "fvnet_t", "--work-dir", tmp_path) == 2
    assert "holds a benchmark already" in capsys.readouterr().err
    assert (tmp_path / "benchmark.json").read_text() == "precious"


@pytest.mark.parametrize(
    ("flag", "word", "sentence"),
    [
        *(("--sizes", word, "HEIGHTxWIDTH") for word in ("31", "224x", "axb", "1x2x3", "-5")),
        *(("--batch", word, "whole number of at least 1") for word in ("0", "-1", "two")),
        *(("--turn-seconds", word, "number of seconds") for word in ("-1", "nan", "")),
    ],
)
def test_number_that_is_none(run: Callable[..., int], flag: str, word: str, sentence: str, capsys) -> None:
    assert run("benchmark", "fvnet_t", f"{flag}={word}") == 2
    assert sentence in capsys.readouterr().err
