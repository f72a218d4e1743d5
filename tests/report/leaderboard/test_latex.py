import re
import shutil
import string
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fvnet_mm.data.classes import COCO_CLASSES
from fvnet_mm.records import Backbone, Complexity, Data, Result, Split
from fvnet_mm.report.leaderboard.latex import LINES, render_latex
from fvnet_mm.report.leaderboard.latex_text import escape
from fvnet_mm.report.leaderboard.model import Leaderboard, Row, Table
from fvnet_mm.report.leaderboard.tables import build_leaderboard

needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
NASTY = string.printable + "±×–—’°äöüßéñçøåæÅÐþşĳﬁ中文😀‘“…"


def compile_latex(text: str, folder: Path) -> str:
    """Compiles and returns the log."""
    (folder / "page.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "page.pdf").stat().st_size > 0
    return done.stdout


@needs_latex
def test_compiles_alone(write_run, tmp_path):
    for seed in (0, 1):
        data = Data(label="coco", classes=COCO_CLASSES, val=Split(images=5000))
        write_run(f"coco{seed}", seed=seed, data=data)
    nasty = Data(label=NASTY, classes=("a",))
    write_run("nasty", data=nasty, backbone=Backbone(name=NASTY), status="running")
    leaderboard = build_leaderboard([tmp_path])
    assert any(table.published for table in leaderboard.tables)
    log = compile_latex(render_latex(leaderboard), tmp_path)
    assert "undefined" not in log
    assert "Missing character" not in log


@needs_latex
def test_widest_table_fits_the_page(write_run, tmp_path):
    """Boxes and masks, deviations, published rows, latency, marks, and labels that are much too long."""
    names = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")
    metrics = {f"{part}{name}": 45.0 for part in ("", "mask ") for name in names}
    common = dict(
        framework="mask_rcnn",
        task="instance_segmentation",
        data=Data(label="coco", classes=COCO_CLASSES, val=Split(images=5000)),
        protocol=dict(framework="mask_rcnn"),
        result=Result(metrics=metrics),
        complexity=Complexity(
            parameters=dict(backbone=123_450_000), macs=dict(backbone=1234 * 10**9), shape=(800, 1333)
        ),
    )
    for seed in range(2):
        write_run(f"seed{seed}", seed=seed, **common)
    for rate in range(40):
        trunk = Backbone(name="efficientformerv2_s0", arguments=dict(drop_path_rate=rate, a_long_argument=rate))
        write_run(f"long{rate}", backbone=trunk, status="running", **common)
    (table,) = build_leaderboard([tmp_path]).tables
    rows = tuple(row.model_copy(update=dict(latency_ms=1234.5)) for row in table.rows)
    whole = Leaderboard(suite_version="1", tables=(table.model_copy(update=dict(rows=rows)),))
    log = compile_latex(render_latex(whole), tmp_path)
    assert "Overfull" not in log
    assert "Float too large" not in log


@needs_latex
def test_compiles_within_a_paper_of_two_columns(records, tmp_path):
    (tmp_path / "leaderboard.tex").write_text(render_latex(build_leaderboard([records])))
    paper = [
        r"\documentclass[twocolumn]{article}\usepackage{booktabs}\begin{document}Text.",
        r"\input{leaderboard}",
        r"More text.\end{document}",
    ]
    compile_latex("\n".join(paper), tmp_path)


def test_best_bold_second_underlined_and_only_ranked(records):
    text = render_latex(build_leaderboard([records]))
    rows = {line.partition(" &")[0]: line for line in text.splitlines() if line.startswith(("FVNet", "Mobile"))}
    assert r"\textbf{33.2}" in text
    assert r"\underline{31.3}" in text
    assert "textbf" not in rows[r"FVNet-M\,$^{\ast}$"]
    assert r"$^{\ast}$\,not finished" in text


def test_published_rows_point_to_their_sources(table: Callable[..., Table], published_row: Callable[..., Row]) -> None:
    """Two of the three are of one paper."""
    sources = ("A paper", "Another paper", "A paper")
    rows = tuple(
        published_row(index, backbone="fvnet_t", label=f"Row {index}", source=source, note=None)
        for index, source in enumerate(sources)
    )
    text = render_latex(Leaderboard(suite_version="1", tables=(table(published=rows),)))
    assert dict(re.findall(r"^Row (\d)\\,\{\\scriptsize\[(\d)\]\}", text, re.MULTILINE)) == {
        "0": "1",
        "1": "2",
        "2": "1",
    }
    assert re.findall(r"\{\}\[(\d)\]~([\w ]+)\.", text) == [("1", "A paper"), ("2", "Another paper")]


@pytest.mark.parametrize(
    ("millions", "cell"),
    [(3.25, "3.25"), (11.7, r"11.7\phantom{0}"), (5.0, r"5\phantom{.00}"), (1.0, r"1\phantom{.00}")],
)
def test_points_of_published_numbers_stand_below_the_others(
    millions: float, cell: str, table: Callable[..., Table], published_row: Callable[..., Row]
) -> None:
    """Published with fewer digits than were counted: what lacks is as wide as it would be."""
    row = published_row(0, backbone="fvnet_t", label="Published", parameters=(millions, None))
    text = render_latex(Leaderboard(suite_version="1", tables=(table(published=(row,)),)))
    (line,) = (line for line in text.splitlines() if line.startswith("Published\\"))
    assert line.split(" & ")[1] == cell


def test_images_of_macs_are_height_by_width(leaderboard: Leaderboard) -> None:
    assert r" MACs of measured rows at 800$\times$1333." in render_latex(leaderboard)


def test_rows_say_the_images_of_their_macs_where_these_differ(table: Callable[..., Table], row: Callable[..., Row]):
    """No row speaks for another: not for one at another image, nor for one at an unknown image."""
    rows = (row(0), row(1), row(2, macs_shape=(512, 512)), row(3, macs_shape=None), row(4, macs=(None, None)))
    text = render_latex(Leaderboard(suite_version="1", tables=(table(rows=rows, published=()),)))
    assert "MACs of measured rows" not in text
    marks = {line.partition(" &")[0] for line in text.splitlines() if line.startswith(("FVNet-", "Mobile"))}
    first, second = r"\,$^{1}$", r"\,$^{2}$"
    large, small = (first, second) if rf"FVNet-T{first}" in marks else (second, first)
    assert marks == {f"FVNet-T{large}", f"FVNet-S{large}", f"FVNet-M{small}", "FVNet-L", f"MobileNetV2{large}"}
    assert rf"{large[2:]}\,MACs at 800$\times$1333." in text
    assert rf"{small[2:]}\,MACs at 512$\times$512." in text
    unknown = render_latex(Leaderboard(suite_version="1", tables=(table(rows=rows[:2] + rows[3:4], published=()),)))
    assert "MACs of measured rows" not in unknown
    without = render_latex(Leaderboard(suite_version="1", tables=(table(rows=rows[:2] + rows[4:], published=()),)))
    assert "MACs of measured rows at" in without


def test_published_macs_are_not_said_to_be_at_the_measured_image(
    table: Callable[..., Table], published_row: Callable[..., Row]
) -> None:
    published = published_row(0, backbone="fvnet_t", macs_shape=(512, 512))
    text = render_latex(Leaderboard(suite_version="1", tables=(table(published=(published,)),)))
    assert r" MACs of measured rows at 800$\times$1333." in text
    assert r"$^{1}$" not in text


def test_a_reference_is_of_harmless_letters_whatever_a_framework_is_called(write_run, tmp_path):
    name = r"mask_rcnn-x}\input{/etc/passwd}%"
    write_run("run", framework=name, protocol=dict(framework=name))
    text = render_latex(build_leaderboard([tmp_path]))
    assert re.search(r"\\label\{tab:mask_rcnn-xinputetcpasswd-[0-9a-f]{12}\}", text)
    assert name not in text


def test_single_row_is_not_the_best_of_anything(write_run, tmp_path):
    write_run("alone")
    assert r"\textbf" not in render_latex(build_leaderboard([tmp_path]))


def test_a_mean_over_some_of_the_runs_says_over_how_many(write_run, tmp_path):
    note = "A number in parentheses: the mean is over so many of the runs."
    write_run("whole", result=Result(metrics={"AP": 39.0, "AP50": 59.0}), backbone=Backbone(name="fvnet_s"))
    assert note not in render_latex(build_leaderboard([tmp_path]))
    for seed, (ap, half) in enumerate(((40.0, 60.0), (None, 61.0), (41.0, None))):
        write_run(f"run{seed}", seed=seed, result=Result(metrics={"AP": ap, "AP50": half}))
    text = render_latex(build_leaderboard([tmp_path]))
    (line,) = (line for line in text.splitlines() if line.startswith("FVNet-T"))
    assert r"\textbf{40.5} & \,{\scriptsize$\pm$\,0.7}\,{\scriptsize (2)}" in line
    assert r"\textbf{60.5}\,{\scriptsize (2)}" in line
    assert note in text


def test_published_rows_of_a_described_trunk_under_any_of_its_names(write_run, tmp_path):
    """Most tables of detectors say 'MobileNetV2' and 'MobileNetV3', and no more."""
    data = Data(label="coco", classes=COCO_CLASSES, val=Split(images=5000))
    write_run("coco", data=data)
    leaderboard = build_leaderboard([tmp_path])
    (table,) = leaderboard.tables
    assert {row.backbone for row in table.published} >= {"mobilenet_v2", "mobilenet_v3_large", "resnet18"}
    text = render_latex(leaderboard)
    for label in ("MobileNetV2 (variant not stated)", "MobileNetV3 (variant not stated)"):
        assert label in text.replace(r"\allowbreak{}", "")


def test_references_are_unique_and_a_table_keeps_its_own(write_run, tmp_path):
    """Two data sets of which nothing but the name is known, as of imported runs, and one with a fingerprint."""
    for name in ("\u6a21", "\u578b", "coco"):
        data = Data(label=name, classes=("a",))
        write_run(name, data=data, protocol={} if name == "coco" else {"data": None})
    labels = re.findall(r"\\label\{(.+?)\}", render_latex(build_leaderboard([tmp_path])))
    assert len(set(labels)) == len(labels) == 3
    for name in ("\u6a21", "\u578b"):
        alone = render_latex(build_leaderboard([tmp_path / "work_dirs" / name]))
        assert re.search(r"\\label\{(.+?)\}", alone)[1] in labels


def test_all_lines_have_the_columns_of_the_table(records):
    text = render_latex(build_leaderboard([records]))
    for tabular in re.findall(r"\\begin\{tabular\}\{([^\n]*)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL):
        columns = len(re.findall("[lr]", tabular[0]))
        for line in tabular[1].splitlines():
            if line.endswith(r"\\"):
                spans = [int(width) - 1 for width in re.findall(r"\\multicolumn\{(\d+)\}", line)]
                assert line.count("&") + 1 + sum(spans) == columns, line


@pytest.mark.parametrize("name", ["\u6a21\u578b-T", "*net", "[net]"])
def test_labels_are_no_arguments_of_the_line_before(name, write_run, tmp_path):
    write_run("run", backbone=Backbone(name=name))
    text = render_latex(build_leaderboard([tmp_path]))
    assert not re.search(r"^[\[*]", text, re.MULTILINE)
    assert "{}" + escape(name) in text


@pytest.mark.parametrize(("rows", "pages"), [(LINES, 1), (LINES + 1, 2)])
def test_a_page_is_filled_before_the_next(
    rows: int, pages: int, table: Callable[..., Table], row: Callable[..., Row]
) -> None:
    many = table(rows=tuple(row(index) for index in range(rows)), published=())
    assert render_latex(Leaderboard(suite_version="1", tables=(many,))).count(r"\begin{table*}") == pages


def test_long_tables_go_on(write_run, tmp_path):
    for index in range(LINES + 3):
        write_run(f"run{index}", AP=float(index), backbone=Backbone(name=f"trunk{index}"))
    text = render_latex(build_leaderboard([tmp_path]))
    assert text.count(r"\begin{table*}") == 2
    assert text.count("(continued)") == 1
    assert text.count(r"\textbf") == 1


@given(st.text())
def test_escaped_text_has_no_live_command(text):
    escaped = escape(text)
    harmless = re.sub(r"\\(text[a-z]+\{\}|[{}$&#%_])|\$\\(pm|times)\$|\$\^\\circ\$|-\{\}", "", escaped)
    assert not set(harmless) & set('\\{}$&#%_^~<>|"')
    assert "--" not in escaped
    assert "\n" not in escaped
