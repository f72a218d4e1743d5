import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import fvnet_mm.lock
from fvnet_mm.errors import UserError
from fvnet_mm.lock import DEAD_AFTER, LOCK, OWNER, only_training_in

HOLD = """
import sys, time
from pathlib import Path
from fvnet_mm.lock import only_training_in
with only_training_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    (tmp_path / ".epoch_2.123.456.pth").touch()
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=rf"process {holder.pid} on {platform.node()}, since 20"),
            only_training_in(tmp_path),
        ):
            pass
        holder.kill()
    assert (tmp_path / OWNER).exists()
    with only_training_in(tmp_path) as note:
        assert f"process {holder.pid} on {platform.node()}" in note
        assert json.loads((tmp_path / OWNER).read_text())["pid"] == os.getpid()
        (tmp_path / ".epoch_3.123.456.pth").touch()
    assert {path.name for path in tmp_path.iterdir()} == {LOCK, ".epoch_3.123.456.pth"}
    with only_training_in(tmp_path) as note:
        assert note is None
    assert {path.name for path in tmp_path.iterdir()} == {LOCK}


def test_a_host_whose_locks_do_not_reach_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known by its name, and believed dead when it has not touched the file for long."""
    (tmp_path / OWNER).write_text(json.dumps(dict(host="elsewhere", pid=5, since="noon")))
    with pytest.raises(UserError, match="process 5 on elsewhere, since noon"), only_training_in(tmp_path):
        pass
    status = (tmp_path / OWNER).stat()
    os.utime(tmp_path / OWNER, (status.st_atime, status.st_mtime - DEAD_AFTER - 1))
    with only_training_in(tmp_path) as note:
        assert "process 5 on elsewhere" in note
    monkeypatch.setattr(fvnet_mm.lock, "SIGN_OF_LIFE", 0.01)
    with only_training_in(tmp_path):
        written = (tmp_path / OWNER).stat().st_mtime_ns
        while (tmp_path / OWNER).stat().st_mtime_ns == written:
            pass


@pytest.mark.parametrize("content", ["", "[]", "{}", "half of it {"])
def test_an_owner_that_cannot_be_read(content: str, tmp_path: Path) -> None:
    (tmp_path / OWNER).write_text(content)
    with pytest.raises(UserError, match="on unknown"), only_training_in(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "run"
    with (
        pytest.raises(UserError, match=rf"the work dir {folder} cannot be made \(Not a directory\); choose another"),
        only_training_in(folder),
    ):
        pass


def test_signs_of_life_go_on_when_one_fails(tmp_path: Path) -> None:
    """The folder of the lock is away for the first of two."""
    file = tmp_path / "away" / OWNER
    waits = []

    class Ended:
        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            if len(waits) == 2:
                file.parent.mkdir()
            return len(waits) == 3

    fvnet_mm.lock._show_life(file, Ended())
    assert file.exists()


def test_a_run_that_writes_nothing_leaves_no_folder(tmp_path: Path) -> None:
    with only_training_in(tmp_path / "work_dirs" / "run"):
        assert (tmp_path / "work_dirs" / "run" / OWNER).exists()
    assert list(tmp_path.iterdir()) == []
