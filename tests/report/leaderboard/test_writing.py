import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fvnet_mm.errors import UserError
from fvnet_mm.report.leaderboard.model import Leaderboard
from fvnet_mm.report.leaderboard.tables import build_leaderboard
from fvnet_mm.report.leaderboard.writing import render, stale_files, write_leaderboard

NAMES = {"leaderboard.json", "leaderboard.csv", "leaderboard.md", "leaderboard.tex"}


def test_written_files_are_fresh_until_something_changes(records, tmp_path):
    leaderboard = build_leaderboard([records])
    written = write_leaderboard(leaderboard, tmp_path / "out", html=False, figures=False)
    assert {path.name for path in written} == NAMES
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(NAMES)  # nothing temporary is left
    assert stale_files(leaderboard, tmp_path / "out", html=False) == []
    (tmp_path / "out" / "leaderboard.csv").write_text("row\n")
    (tmp_path / "out" / "leaderboard.tex").unlink()
    stale = stale_files(leaderboard, tmp_path / "out", html=False)
    assert {path.name for path in stale} == {"leaderboard.csv", "leaderboard.tex"}


def test_bytes_do_not_depend_on_the_place(records, tmp_path):
    texts = render(build_leaderboard([records]), html=False)
    for place in ("a", "z/deep/er"):
        shutil.copytree(records, tmp_path / place / "runs")
        assert render(build_leaderboard([tmp_path / place / "runs"]), html=False) == texts
    assert set(texts) == NAMES


def test_bytes_do_not_depend_on_the_process(records, tmp_path):
    """The hashes of strings, and with them the order of sets, change from process to process."""
    code = (
        "import sys; from pathlib import Path; from fvnet_mm.report.leaderboard.tables import build_leaderboard; "
        "from fvnet_mm.report.leaderboard.writing import render; "
        "sys.stdout.write(repr(render(build_leaderboard([Path(sys.argv[1])]), html=False)))"
    )
    texts = [
        subprocess.run(
            [sys.executable, "-c", code, str(records)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert texts[0] == texts[1]
    assert texts[0]


def test_json_reads_back(records, tmp_path):
    leaderboard = build_leaderboard([records])
    write_leaderboard(leaderboard, tmp_path, html=False, figures=False)
    assert Leaderboard.model_validate_json((tmp_path / "leaderboard.json").read_bytes()) == leaderboard


def test_says_nothing_of_the_machine(records):
    for name, text in render(build_leaderboard([records]), html=False).items():
        assert str(Path.home()) not in text, name
        assert str(records) not in text, name


def test_page_and_figures_are_written_too(records, tmp_path):
    leaderboard = build_leaderboard([records])
    written = write_leaderboard(leaderboard, tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in written}
    assert {"index.html", *NAMES} < names
    assert any(name.startswith("figures/") for name in names)
    assert stale_files(leaderboard, tmp_path) == []


def test_place_that_cannot_be_written(records, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written into"):
        write_leaderboard(build_leaderboard([records]), tmp_path / "file", html=False, figures=False)
