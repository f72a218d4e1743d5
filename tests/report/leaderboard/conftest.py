"""Leaderboards of invented numbers."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fvnet_mm.files import sha256_of
from fvnet_mm.records import Data, Predictions, Protocol, Result, Split
from fvnet_mm.records.reading import read_record, write_record
from fvnet_mm.report.leaderboard.model import Leaderboard, Row, Run, Statistic, Table

RECORDS = Path(__file__).with_name("records")

NAMES = (
    "FVNet-T",
    "FVNet-S",
    "FVNet-M",
    "FVNet-L",
    "MobileNetV2",
    "RepViT-M1.1",
    "PoolFormer-S12",
    "EfficientFormer-L1",
)
CLASSES = ("person", "bicycle", "car", "traffic light", "dining table", "hair drier", "<i>cup</i>", "fork")
SIZES = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")


def make_row(index: int, *, seeds: int = 3, **changes: object) -> Row:
    """An invented row; the numbers hang on its index alone."""
    random = np.random.default_rng(index)
    label = NAMES[index] if index < len(NAMES) else f"Trunk-{index}"
    parameters = float(2 + 1.9 * index)
    centre = 20 + 3.1 * np.sqrt(parameters) + random.normal(0, 1)
    means = {
        name: centre + offset + float(random.normal(0, 1))
        for name, offset in zip(SIZES, (0, 18.3, 1.2, -14, 2.5, 9), strict=True)
    }
    runs = tuple(
        Run(
            record=f"{label.lower()}_seed{seed}/run.json",
            origin="train",
            status="finished",
            seed=seed,
            metrics={name: mean + 0.2 * (seed - 1) for name, mean in means.items()},
            checkpoint_sha256=f"{index:02x}{seed:02x}" * 16,
            device="NVIDIA Example 9000",
            versions={"torch": "2.6.0", "mmdet": "3.3.0", "mmengine": "0.10.7"},
            git_commit="0123456789abcdef0123456789abcdef01234567",
            git_dirty=seed == 1,
        )
        for seed in range(seeds)
    )
    per_class = {name: {"AP": max(0.0, centre + float(random.normal(0, 9))), "AP50": centre + 18} for name in CLASSES}
    fields = dict(
        id=f"retinanet-{label.lower()}-0123abcd",
        backbone=label.lower().replace("-", "_"),
        label=label,
        provenance="measured",
        metrics={name: Statistic(mean=mean, std=0.2 if seeds > 1 else None, n=seeds) for name, mean in means.items()},
        per_class=per_class,
        parameters=(parameters, parameters + 8.4),
        macs=(parameters / 2.5, parameters / 2.5 + 140),
        macs_shape=(800, 1333),
        latency_ms=12 + 2 * parameters,
        throughput=900 / parameters,
        speed_note="NVIDIA Example 9000, float16, 800 x 1333",
        peak_memory_gb=3 + parameters / 4,
        pretraining="plain",
        runs=runs,
    )
    return Row(**(fields | changes))


def make_published(index: int, **changes: object) -> Row:
    """An invented result of others, of a trunk whose whole model nobody counted."""
    row = make_row(index)
    fields = dict(
        id=f"published-{index}",
        backbone=row.backbone,
        label=f"{row.label} (paper)",
        provenance="published",
        metrics={"AP": Statistic(mean=row.metrics["AP"].mean + 4)},
        parameters=(row.parameters[0], None),
        pretraining="distilled",
        source=f"An invented paper with a rather long title about trunks, volume {index}, table 4",
        note="300 epochs of pretraining, teacher RegNetY-16GF",
    )
    return Row(**(fields | changes))


def make_table(
    title: str = "RetinaNet on COCO, 12 epochs", rows: tuple[Row, ...] | None = None, **changes: object
) -> Table:
    """A table of invented rows, the best first."""
    rows = tuple(make_row(index) for index in range(len(NAMES))) if rows is None else rows
    fields = dict(
        title=title,
        framework="retinanet",
        data="coco",
        main_metric="AP",
        metric_names=SIZES,
        protocol=Protocol(
            framework="retinanet",
            data="9f86d081884c",
            optimizer="AdamW",
            learning_rate=0.0001,
            weight_decay=0.05,
            effective_batch=16,
            length=12,
            length_unit="epoch",
            schedule="LinearLR 500, MultiStepLR 8 11",
            train_pipeline="Resize 1333x800 keep_ratio, RandomFlip 0.5",
            test_pipeline="Resize 1333x800 keep_ratio",
            precision="float32",
            pretraining="plain",
        ),
        rows=tuple(sorted(rows, key=lambda row: -row.metrics["AP"].mean if "AP" in row.metrics else 0)),
        published=(make_published(4), make_published(6), make_published(7)),
    )
    return Table(**(fields | changes))


@pytest.fixture
def row() -> Callable[..., Row]:
    """Makes an invented row of an index, with fields changed at will."""
    return make_row


@pytest.fixture
def published_row() -> Callable[..., Row]:
    """Makes an invented published row of an index, with fields changed at will."""
    return make_published


@pytest.fixture
def table() -> Callable[..., Table]:
    """Makes a table of invented rows, with fields changed at will."""
    return make_table


@pytest.fixture
def leaderboard() -> Leaderboard:
    """Two tables that differ in the pretraining, the second with few numbers, and a problem."""
    scratch = make_row(1, seeds=1, pretraining="scratch", latency_ms=None, throughput=None, speed_note=None)
    bare = make_row(
        9,
        seeds=1,
        label="A trunk with a name_that_is_long_and_has_hardly_a_place_to_break_it",
        provenance="imported",
        metrics={"AP": Statistic(mean=21.0)},
        per_class={},
        parameters=(None, None),
        macs=(None, None),
        macs_shape=None,
        pretraining=None,
    )
    first = make_table()
    protocol = first.protocol.model_copy(update={"pretraining": "scratch"})
    second = make_table("RetinaNet on COCO, 12 epochs, from scratch", (scratch, bare), published=(), protocol=protocol)
    problem = "cut/run.json: the file ends in the middle of a string; </script><script>alert(1)</script>"
    return Leaderboard(suite_version="0.0.1", tables=(first, second), problems=(problem,))


RunWriter = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> RunWriter:
    """Writes the committed example of an invented run below ``work_dirs``, with fields changed at will."""
    example = read_record(RECORDS / "retinanet_fvnet_t_seed0" / "run.json")

    def write(
        name: str,
        *,
        file: str = "run.json",
        AP: float | None = None,
        protocol: dict[str, object] | None = None,
        **changes: object,
    ) -> Path:
        changes.setdefault("checkpoint_sha256", hashlib.sha256(name.encode()).hexdigest())
        if AP is not None:
            changes["result"] = Result(metrics={"AP": AP, "AP_L": None}, per_class=example.result.per_class)
        settings = dict(protocol or {})
        if "data" in changes:
            data = changes["data"]
            settings.setdefault("data", data and hashlib.sha256(data.model_dump_json().encode()).hexdigest())
        changes["protocol"] = example.protocol.model_copy(update=settings)
        path = tmp_path / "work_dirs" / name / file
        write_record(example.model_copy(update=changes), path)
        return path

    return write


IMAGES = 30


@pytest.fixture
def write_predicted_run(write_run: RunWriter, tmp_path: Path) -> RunWriter:
    """Writes a run with predictions: of ``IMAGES`` images with one circle each, it misses the circles of some.

    A resample has the AP of a run without a miss only if it has none of the ``missed`` images, the chance of which is
    (1 - missed / IMAGES) ** IMAGES.
    """
    truth = tmp_path / "truth.json"
    box = [10, 10, 40, 40]
    objects = [dict(id=i, image_id=i, category_id=1, bbox=box, area=1600, iscrowd=0) for i in range(1, IMAGES + 1)]
    categories = [dict(id=i, name=name) for i, name in enumerate(("circle", "square", "star"), 1)]
    images = [dict(id=i, file_name=f"{i}.jpg", width=100, height=100) for i in range(1, IMAGES + 1)]
    truth.write_text(json.dumps(dict(images=images, annotations=objects, categories=categories)))

    def write(name: str, missed: int, **changes: object) -> Path:
        found = [dict(image_id=i, category_id=1, bbox=box, score=0.9) for i in range(missed + 1, IMAGES + 1)]
        found += [dict(image_id=i, category_id=1, bbox=[60, 60, 9, 9], score=0.1) for i in range(1, missed + 1)]
        file = write_run(name, **changes).with_name("predictions.bbox.json")
        file.write_text(json.dumps(found))
        kept = Predictions(kind="coco_boxes", path=file.name, ground_truth=str(truth), sha256=sha256_of(file))
        ap = 100 * (np.linspace(0, 1, 101) <= 1 - missed / IMAGES).mean()
        val = Split(images=IMAGES, objects=IMAGES, fingerprint=sha256_of(truth))
        data = Data(label="circles", classes=("circle", "square", "star"), val=val)
        return write_run(name, data=data, result=Result(metrics={"AP": ap}, predictions=(kept,)), **changes)

    return write


@pytest.fixture
def records() -> Path:
    """The folder of committed examples: invented runs."""
    return RECORDS
