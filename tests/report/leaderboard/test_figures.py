"""Figures: which are written, that they are alike again, and what stands in them."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from PIL import Image

from fvnet_mm.report.leaderboard.figures import draw_figures, file_names
from fvnet_mm.report.leaderboard.model import Leaderboard, Row, Statistic, Table


@pytest.fixture
def as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text stays text in SVG files, so that it can be read."""
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")


def texts(path: Path) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.parse(path).iter() if element.tag.endswith("}text")]


def board(*tables: Table) -> Leaderboard:
    return Leaderboard(suite_version="1", tables=tables)


def test_files_of_a_table(table: Callable[..., Table], tmp_path: Path) -> None:
    written = draw_figures(board(table()), tmp_path / "figures")
    kinds = ("parameters", "macs", "latency", "classes")
    assert [path.name for path in written] == [
        f"retinanet-on-coco-12-epochs-{kind}.{suffix}" for kind in kinds for suffix in ("svg", "png")
    ]
    assert sorted(written) == sorted((tmp_path / "figures").iterdir())
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width > 900
        else:
            assert ElementTree.parse(path).getroot().tag.endswith("}svg")


def test_dollars_in_titles_make_no_formula(table: Callable[..., Table], tmp_path: Path) -> None:
    assert draw_figures(board(table("RetinaNet on a$b_$c")), tmp_path)


def test_bytes_are_the_same_again(table: Callable[..., Table], row: Callable[..., Row], tmp_path: Path) -> None:
    small = board(table(rows=(row(0, latency_ms=None), row(1, latency_ms=None, macs=(None, None)))))
    first = {path.name: path.read_bytes() for path in draw_figures(small, tmp_path / "a")}
    second = {path.name: path.read_bytes() for path in draw_figures(small, tmp_path / "b")}
    assert first == second
    assert not re.search(rb"<dc:date>|matplotlib\.org", first["retinanet-on-coco-12-epochs-parameters.svg"])


@pytest.mark.usefixtures("as_text")
def test_what_a_plot_says(
    table: Callable[..., Table], row: Callable[..., Row], published_row: Callable[..., Row], tmp_path: Path
) -> None:
    trunk_only = row(2, label="A $5 trunk", parameters=(3.0, None), macs=(None, None), latency_ms=None, per_class={})
    published = published_row(3)
    shown = board(table("Title", (trunk_only,), published=(published,)))
    written = draw_figures(shown, tmp_path)
    assert [path.name for path in written] == ["title-parameters.svg", "title-parameters.png"]
    words = texts(written[0])
    assert "A $5 trunk" in words
    assert "Parameters of the trunk (M)" in words
    assert "published, other protocols" in words
    assert published.label not in words


@pytest.mark.usefixtures("as_text")
def test_latency_names_its_device(table: Callable[..., Table], row: Callable[..., Row], tmp_path: Path) -> None:
    draw_figures(board(table("Title", (row(0), row(1)))), tmp_path)
    assert any("NVIDIA Example 9000" in text for text in texts(tmp_path / "title-latency.svg"))
    assert "MACs of the whole model at 800 × 1333 pixels (G)" in texts(tmp_path / "title-macs.svg")


@pytest.mark.usefixtures("as_text")
def test_of_many_classes_those_that_differ_most(
    table: Callable[..., Table], row: Callable[..., Row], tmp_path: Path
) -> None:
    names = [f"class {index}" for index in range(100)]
    first = row(7, per_class={name: {"IoU": 50.0, "Acc": 1.0} for name in names})
    second = row(0, per_class={name: {"IoU": 50.0 - index / 10} for index, name in enumerate(names)})
    draw_figures(board(table("Title", (first, second))), tmp_path)
    words = texts(tmp_path / "title-classes.svg")
    assert {word for word in words if word.startswith("class ")} == set(names[60:])
    assert {"IoU (%)", first.label, second.label} <= set(words)


def test_undefined_classes_and_unranked_rows(
    table: Callable[..., Table], row: Callable[..., Row], tmp_path: Path
) -> None:
    first = row(7, per_class={"cup": {"AP": None}, "fork": {"AP": 3.0}, "knife": {"AP": 4.0}})
    second = row(0, per_class={"cup": {"AP": 3.0}, "fork": {"AP": None}})
    no_result = row(1, metrics={"AP50": Statistic(mean=1.0)})
    written = draw_figures(board(table("Title", (first, second, no_result))), tmp_path)
    assert tmp_path / "title-classes.svg" in written


def test_nothing_to_draw(table: Callable[..., Table], tmp_path: Path) -> None:
    assert draw_figures(board(table(rows=())), tmp_path / "none") == []
    assert draw_figures(board(), tmp_path / "none") == []


def test_names_of_files(table: Callable[..., Table]) -> None:
    first = table("Mask R-CNN: COCO / 1x")
    other = first.protocol.model_copy(update={"pretraining": "scratch"})
    second = table("Mask R-CNN, COCO, 1x", protocol=other)
    assert file_names([first]) == ["mask-r-cnn-coco-1x"]
    assert file_names([first, second]) == [
        f"mask-r-cnn-coco-1x-{first.protocol.fingerprint}",
        f"mask-r-cnn-coco-1x-{other.fingerprint}",
    ]
    assert file_names([table("…")]) == ["table"]
    assert len(file_names([table("x" * 300)])[0]) == 80
