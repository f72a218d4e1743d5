"""tools/benchmark.py as its user starts it: a process of its own, in another folder."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fvnet_mm.records.benchmark_file import read_benchmark

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "tools" / "benchmark.py"
TINY = ["--sizes", "32", "--batch", "1", "--rounds", "6", "--turn-seconds", "0", "--threads", "1"]


def start(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, TOOL, *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_help_imports_nothing_heavy_and_every_flag_is_explained(tmp_path: Path) -> None:
    done = start("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    flags = set(re.findall(r"--[a-z][a-z-]+[a-z0-9]", done.stdout))
    explained = set(re.findall(r"--[a-z][a-z-]+[a-z0-9]", (ROOT / "docs" / "benchmark.md").read_text()))
    assert flags - {"--help"} <= explained
    code = (
        f"import runpy, sys; runpy.run_path({str(TOOL)!r}); print({{'torch', 'numpy', 'pydantic'}} & {{*sys.modules}})"
    )
    imports = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert imports.stdout.strip() == "set()"


def test_trunks_side_by_side(tmp_path: Path) -> None:
    """One by name, the other by the file that describes it."""
    described = (ROOT / "configs/_base_/backbones/mobilenetv4_conv_small.py").read_text()
    (tmp_path / "mine.py").write_text(described)
    done = start("starnet_s1", "mine.py", "--fuse", *TINY, "--work-dir", "out", cwd=tmp_path)
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


def test_isolated_training_steps(tmp_path: Path) -> None:
    """A process of its own computes what the command's process shows."""
    words = ["starnet_s1", "--isolate", "--training", *TINY, "--batch", "2", "--work-dir", "out"]
    done = start(*words, cwd=tmp_path)
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
