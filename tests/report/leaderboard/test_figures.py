"""Figures: which are written, that they are alike again, and what stands in them."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib import cbook
from matplotlib.axes import Axes
from PIL import Image

from fvnet_mm.report.leaderboard import figures
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


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[Table], dict[str, Axes]]:
    """Draws a table and gives the axes of each figure, by its name."""

    def draw(table: Table) -> dict[str, Axes]:
        found: dict[str, Axes] = {}
        monkeypatch.setattr(
            figures, "save_figure", lambda figure, path: found.update({path.name: figure.axes[0]}) or [path]
        )
        draw_figures(board(table), Path())
        return found

    return draw


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


def test_classes_of_the_first_row_alone_differ_least(
    table: Callable[..., Table], row: Callable[..., Row], drawn: Callable[[Table], dict[str, Axes]]
) -> None:
    names = [f"class {index}" for index in range(50)]
    first = row(7, per_class={name: {"IoU": 50.0} for name in names})
    second = row(0, per_class={name: {"IoU": 50.0 - index / 10} for index, name in enumerate(names) if index % 10})
    axes = drawn(table("Title", (first, second)))["title-classes"]
    shown = {label.get_text() for label in axes.get_yticklabels()}
    assert shown == {name for index, name in enumerate(names) if index % 10 and index > 5}


def test_bars_of_classes_rise_by_the_first_row_which_is_above_the_second(
    table: Callable[..., Table], row: Callable[..., Row], drawn: Callable[[Table], dict[str, Axes]]
) -> None:
    values = {"cup": (30.0, 35.0), "fork": (10.0, 40.0), "knife": (20.0, 5.0)}
    rows = [
        row(index, per_class={name: {"AP": pair[place]} for name, pair in values.items()})
        for place, index in enumerate((7, 0))
    ]
    axes = drawn(table("Title", tuple(rows)))["title-classes"]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["fork", "knife", "cup"]
    first, second = axes.containers
    assert [[bar.get_width() for bar in bars] for bars in (first, second)] == [[10, 20, 30], [40, 5, 35]]
    for place, (above, below) in enumerate(zip(first, second, strict=True)):
        assert above.get_y() + above.get_height() / 2 > place > below.get_y() + below.get_height() / 2


def test_classes_are_of_ranked_rows(
    table: Callable[..., Table], row: Callable[..., Row], drawn: Callable[[Table], dict[str, Axes]]
) -> None:
    running = row(7, runs=tuple(run.model_copy(update={"status": "running"}) for run in row(7).runs))
    axes = drawn(table("Title", (running, row(1), row(0))))["title-classes"]
    assert axes.get_legend_handles_labels()[1] == [row(1).label, row(0).label]


def test_the_front_promises_no_more_than_rows_of_that_cost_reach(
    table: Callable[..., Table], drawn: Callable[[Table], dict[str, Axes]]
) -> None:
    shown = table(published=())
    axes = drawn(shown)[f"{file_names([shown])[0]}-latency"]
    (front,) = (line for line in axes.lines if line.get_label() == "Pareto front")
    points = [(row.latency_ms, row.metrics["AP"].mean) for row in shown.rows]
    assert len(front.get_xdata()) > 2
    for cost, accuracy in np.transpose(cbook.STEP_LOOKUP_MAP[front.get_drawstyle()](*front.get_data())):
        assert accuracy <= max(reached for other, reached in points if other <= cost)


def test_bars_of_points_are_a_deviation_to_either_side(
    table: Callable[..., Table], row: Callable[..., Row], drawn: Callable[[Table], dict[str, Axes]]
) -> None:
    axes = drawn(table("Title", (row(0), row(1)), published=()))["title-latency"]
    segments = np.concatenate([bars.get_segments() for container in axes.containers for bars in container[2]])
    assert segments[:, 1, 1] - segments[:, 0, 1] == pytest.approx(np.full(len(segments), 2 * 0.2))


@pytest.mark.parametrize(("ratio", "scale"), [(29, "linear"), (31, "log")])
def test_costs_that_lie_far_apart_have_a_logarithmic_axis(
    ratio: float,
    scale: str,
    table: Callable[..., Table],
    row: Callable[..., Row],
    drawn: Callable[[Table], dict[str, Axes]],
) -> None:
    rows = (row(0, latency_ms=1.0), row(1, latency_ms=float(ratio)))
    assert drawn(table("Title", rows, published=()))["title-latency"].get_xscale() == scale


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
    unknown = first.protocol.model_copy(update={"data": None})
    names = {"\u6a21": "01234567", "\u578b": "89abcdef"}
    tables = [table(f"{name} on 1x", protocol=unknown, data_digest=digest) for name, digest in names.items()]
    assert file_names(tables) == [f"on-1x-{unknown.fingerprint}-{digest}" for digest in names.values()]
    assert file_names([table("…")]) == ["table"]
    assert len(file_names([table("x" * 300)])[0]) == 80
