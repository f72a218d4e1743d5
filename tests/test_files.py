from pathlib import Path

import pytest

from fvnet_mm.errors import UserError
from fvnet_mm.files import new_folder, replacing


def test_file_appears_at_the_end_and_whole(tmp_path: Path):
    target = tmp_path / "new" / "picture.png"
    with replacing(target) as temporary:
        temporary.write_text("half")
        assert temporary.parent == target.parent
        assert temporary.suffix == ".png"
        assert not target.exists()
    assert target.read_text() == "half"
    assert list(target.parent.iterdir()) == [target]


def test_exception_leaves_the_old_file(tmp_path: Path):
    target = tmp_path / "log.json"
    target.write_text("old")

    def interrupted() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_appears_at_the_end_or_not_at_all(tmp_path: Path):
    target = tmp_path / "new" / "set"

    def stopped() -> None:
        with new_folder(target) as partial:
            (partial / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(target.parent.iterdir()) == []
    with new_folder(target) as partial:
        (partial / "file").touch()
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["file"]
    with pytest.raises(UserError, match="exists; remove it or name another folder"), new_folder(target):
        pass
    assert list(target.parent.iterdir()) == [target]
