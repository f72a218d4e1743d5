"""A folder split anew has the same images, the last by name for validation."""

from collections.abc import Callable
from pathlib import Path

import pytest

INTERLEAVED = {"training": ("a", "b", "d", "e"), "validation": ("c", "f")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for split, names in INTERLEAVED.items():
        for kind, suffix in (("images", "jpg"), ("annotations", "png")):
            folder = tmp_path / "source" / kind / split
            folder.mkdir(parents=True)
            for name in names:
                (folder / f"{name}.{suffix}").write_text(f"{kind} {name}")
    (tmp_path / "source" / "classes.txt").write_text("road\n")
    return tmp_path / "source"


def test_the_last_by_name_are_for_validation(
    script: Callable[..., str], source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target"
    assert script("split_by_name", source, target) == ""
    assert capsys.readouterr().out == "training: 4 images, a.jpg to d.jpg\nvalidation: 2 images, e.jpg to f.jpg\n"
    files = {str(file.relative_to(target)): file.read_text() for file in target.rglob("*") if file.is_file()}
    expected = {"classes.txt": "road\n"}
    for split, names in {"training": "abcd", "validation": "ef"}.items():
        for name in names:
            expected[f"images/{split}/{name}.jpg"] = f"images {name}"
            expected[f"annotations/{split}/{name}.png"] = f"annotations {name}"
    assert files == expected


def add_namesake(source: Path, target: Path) -> None:
    for file in ("images/validation/a.jpg", "annotations/validation/a.png"):
        (source / file).write_text("another a")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda source, target: target.mkdir(), "exists; remove it"),
        (lambda source, target: (source / "annotations").rename(source / "masks"), "annotations/training does not"),
        (lambda source, target: (source / "annotations/validation/c.png").unlink(), "1 images have no label map ('c')"),
        (add_namesake, "has an image of one name in both splits"),
    ],
)
def test_mistakes(
    script: Callable[..., str],
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path, Path], object],
    complaint: str,
) -> None:
    spoil(source, tmp_path / "target")
    before = sorted(tmp_path.iterdir())
    assert script("split_by_name", source, tmp_path / "target") == "2"
    assert complaint in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
