import hashlib
from pathlib import Path

import numpy as np
import pytest

from fvnet_mm.errors import UserError
from fvnet_mm.files import new_folder, replacing, sha256_of, write_text


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


def test_text_is_utf_8_in_a_folder_that_need_not_exist(tmp_path: Path):
    target = tmp_path / "new" / "names.txt"
    write_text(target, "Seilbahn über ±2 m\n")
    assert target.read_bytes() == "Seilbahn über ±2 m\n".encode()
    assert list(target.parent.iterdir()) == [target]


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


def test_the_digest_of_a_folder(tmp_path: Path) -> None:
    """Over the names in their order and the digests; folders within do not count, nor does the order of writing."""
    folder = tmp_path / "maps"
    (folder / "within").mkdir(parents=True)
    (folder / "within/z.png").write_bytes(b"z")
    names = [f"{number}.png" for number in range(30)]
    for name in names:
        (folder / name).write_bytes(name.encode())
    listing = "".join(f"{name} {hashlib.sha256(name.encode()).hexdigest()}\n" for name in sorted(names))
    assert sha256_of(folder) == hashlib.sha256(listing.encode()).hexdigest()
    for name in (".DS_Store", "Thumbs.db"):  # of somebody who looked
        (folder / name).write_bytes(b"view")
    assert sha256_of(folder) == hashlib.sha256(listing.encode()).hexdigest()
    (folder / "0.png").rename(folder / "0.PNG")
    assert sha256_of(folder) != hashlib.sha256(listing.encode()).hexdigest()


def test_the_digest_of_a_file_is_of_all_of_it(tmp_path: Path) -> None:
    # From the standard's examples (FIPS 180-2): 'abc'.
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    large = np.random.default_rng(0).bytes(3 * 2**20 + 5)
    (tmp_path / "large").write_bytes(large)
    assert sha256_of(tmp_path / "large") == hashlib.sha256(large).hexdigest()
