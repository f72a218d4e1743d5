import csv
import re
import runpy
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
import setuptools

from fvnet_mm.errors import UserError
from fvnet_mm.report.published import COLUMNS, MACS_AT_512, PUBLISHED, read_published

ROW = dict(
    backbone="RepViT",
    variant="M1.1",
    task="imagenet",
    framework="classification",
    schedule="450e",
    input_size="",
    params_m="8.20",
    macs_g="",
    metric="top1",
    value="81.2",
    source="THU-MIG/RepViT README.md",
    params_scope="backbone",
    source_kind="paper repo",
    note="",
)


def write(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_own_table_as_printed_elsewhere():
    """Numbers looked up in the papers, one of each kind."""
    results = read_published()
    found = {(r.backbone, r.variant, r.framework, r.schedule, r.metric, r.source): r for r in results}
    repvit = found["RepViT", "M1.1", "classification", "450e", "top1", "THU-MIG/RepViT README.md"]
    assert (repvit.params_m, repvit.macs_g, repvit.value) == (Decimal("8.2"), Decimal("1.3"), Decimal("81.2"))
    pvt = found["PVT", "Tiny", "RetinaNet", "1x", "bbox_AP", "PVT arXiv 2102.12122 Table 2"]
    assert (pvt.params_m, pvt.value, pvt.params_scope) == (Decimal("23.0"), Decimal("36.7"), "detector")
    trunk_macs = next(r for r in results if r.backbone == "PoolFormer" and r.params_scope == MACS_AT_512)
    assert trunk_macs.macs_g == Decimal("9.5")


def test_own_table_has_first_hand_sources_and_no_row_twice():
    results = read_published()
    assert not [r for r in results if "secondary" in r.source + r.source_kind]
    assert not [r for r in results if re.search(r"flops", r.note + r.params_scope, re.IGNORECASE)]
    repeated = [result for result, count in Counter(results).items() if count > 1]
    assert not repeated
    # A network has one number of parameters in one source: a slip of the hand would show here.
    stated = {}
    for r in results:
        if r.params_m is not None:
            key = (r.backbone, r.variant, r.framework, r.source, r.params_scope)
            stated.setdefault(key, set()).add(r.params_m)
    assert not {key: values for key, values in stated.items() if len(values) > 1}


def test_reads_what_is_written_and_keeps_the_digits(tmp_path):
    (result,) = read_published(write(tmp_path / "table.csv", ROW))
    assert str(result.params_m) == "8.20"
    assert result.macs_g is None
    assert (result.backbone, result.note) == ("RepViT", "")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"params_m": "8,2"}, "params_m is '8,2' and must be a number above 0"),
        ({"macs_g": "-1"}, "macs_g is '-1' and must be a number above 0"),
        ({"macs_g": "inf"}, "macs_g is 'inf'"),
        ({"value": ""}, "value is '' and must be a number of percent"),
        ({"value": "812"}, "value is '812'"),
        ({"framework": "YOLO"}, "framework is 'YOLO' and must be one of 'Mask R-CNN'"),
        ({"task": "ade20k"}, "task is 'ade20k' and must be one of 'imagenet'"),
        ({"metric": "mIoU"}, "metric is 'mIoU' and must be one of 'top1'"),
        ({"source": " "}, "source is empty"),
        ({"source_kind": "hearsay"}, "source_kind is 'hearsay'"),
        ({"params_scope": "everything"}, "params_scope is 'everything'"),
        ({"params_scope": ""}, "params_scope must say"),
        ({"params_m": ""}, "params_scope must say"),
    ],
)
def test_bad_row_is_named_by_its_line(tmp_path, change, sentence):
    path = write(tmp_path / "table.csv", ROW, ROW | change)
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}, line 3: {sentence}')}"):
        read_published(path)


def test_other_columns_missing_cells_and_missing_file(tmp_path):
    path = tmp_path / "table.csv"
    with pytest.raises(UserError, match="cannot be read from"):
        read_published(path)
    path.write_text("backbone,variant\n")
    with pytest.raises(UserError, match=r"line 1: the columns are backbone, variant and must be .*, note"):
        read_published(path)
    write(path, ROW)
    path.write_text(path.read_text() + "RepViT,M1.5\n")
    with pytest.raises(UserError, match="line 3: there are 2 columns where 14 are needed"):
        read_published(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read from"):
        read_published(path)


def test_table_is_packed_with_the_package(monkeypatch):
    """An editable install finds the table in any case; setup.py must say that a wheel has it, too."""
    told = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: told.update(arguments))
    runpy.run_path(str(Path(__file__).parents[2] / "setup.py"))
    assert PUBLISHED.name in told["package_data"]["fvnet_mm.report"]
