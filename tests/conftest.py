"""Fixtures that all tests share."""

import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope

from fvnet_mm.cli import run_tool
from fvnet_mm.data.class_shapes import write_class_shapes
from fvnet_mm.data.semantic_shapes import write_ade20k_shapes
from fvnet_mm.data.shapes import write_coco_shapes
from fvnet_mm.records import Backbone
from fvnet_mm.records.benchmark import BenchmarkRecord, Case, Conditions, Counted, Measurement, Model, Ratio, Times

ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Shares the cores among the workers of pytest-xdist: threads that wait for a core spin, and slow all down."""
    workers = getattr(config, "workerinput", {}).get("workercount")
    if workers is not None:
        threads = max(1, torch.get_num_threads() // workers)
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # of the tools that tests start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "demo_learns" not in item.name)  # minutes in one test: not the last to be begun
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no CUDA device")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Keeps what a run leaves in its process from the next test.

    That is the registries' default scope, the loggers, which print to what was the standard output of their test, and
    the message hubs, which a run of the same config that begins within the same second would find by their name.
    """
    yield
    DefaultScope._instance_dict.clear()
    MessageHub._instance_dict.clear()
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    MMLogger._instance_dict.clear()


class Bomb:
    """Unpickles by running a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.fixture
def bomb() -> Callable[[str], object]:
    """Makes an object that runs a shell command when it is unpickled by the book."""
    return Bomb


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a folder refuse to be listed, as another user's does: tests may be run by root, who may read all."""
    scandir, locked = os.scandir, set()

    def refuse(place: str) -> object:
        if Path(place) in locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    return locked.add


@pytest.fixture(scope="session")
def tiny_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated COCO folder: 8 training and 4 validation images of 64 x 64 pixels. Copy it before changing it."""
    return write_coco_shapes(tmp_path_factory.mktemp("data") / "tiny", 8, 4, (64, 64))


@pytest.fixture(scope="session")
def tiny_ade20k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated folder in ADE20K's layout: 8 training and 4 validation images of 64 x 64 pixels."""
    return write_ade20k_shapes(tmp_path_factory.mktemp("data") / "tiny_ade20k", 8, 4, (64, 64))


@pytest.fixture(scope="session")
def tiny_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated class folders: 12 training and 12 validation images of 64 x 64 pixels, one of each class."""
    return write_class_shapes(tmp_path_factory.mktemp("data") / "tiny_classes", 12, 12, (64, 64))


# One worker: a loader without any draws from the same generator as the network, which a resumed run cannot repeat.
SMALL_LOADERS = [
    "train_dataloader.batch_size=2",
    "train_dataloader.num_workers=1",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
    "test_dataloader.num_workers=0",
    "test_dataloader.persistent_workers=False",
    "auto_scale_lr.base_batch_size=2",
    "default_hooks.logger.interval=1",
]


# A RetinaNet whose neck and heads are no larger than what is tested takes.
SMALL_HEADS = [
    "model.neck.out_channels=32",
    "model.bbox_head.in_channels=32",
    "model.bbox_head.feat_channels=32",
    "model.bbox_head.stacked_convs=1",
]


@pytest.fixture
def small_run(small_coco_run: list[str]) -> list[str]:
    """Overrides that make a run of a RetinaNet config small: those of any COCO config, and small heads."""
    return [*small_coco_run, *SMALL_HEADS]


@pytest.fixture
def small_coco_run() -> list[str]:
    """Overrides that make a run of a COCO config small: 64-pixel images, two epochs of four steps, one worker."""
    return [
        "--cfg-options",
        "train_dataloader.dataset.pipeline.2.scale=(64,64)",
        "val_dataloader.dataset.pipeline.1.scale=(64,64)",
        "test_dataloader.dataset.pipeline.1.scale=(64,64)",
        *SMALL_LOADERS,
        "train_cfg.max_epochs=2",
    ]


@pytest.fixture
def small_segmentation() -> list[str]:
    """The same of an ADE20K config: crops of 64 pixels, eight iterations with an evaluation after the fourth."""
    return [
        "--cfg-options",
        "train_dataloader.dataset.pipeline.2.scale=(64,64)",
        "train_dataloader.dataset.pipeline.3.crop_size=(64,64)",
        "model.data_preprocessor.size=(64,64)",
        "val_dataloader.dataset.pipeline.1.scale=(64,64)",
        "test_dataloader.dataset.pipeline.1.scale=(64,64)",
        *SMALL_LOADERS,
        "train_dataloader.persistent_workers=False",
        "train_cfg.max_iters=8",
        "train_cfg.val_interval=4",
        "default_hooks.checkpoint.interval=4",
    ]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a tool in this process as its command line would, and returns the exit status.

    A subprocess would spend most of its time importing; :func:`start_tool` starts one.
    """

    def call(tool: str, *words: object) -> int:
        spec = spec_from_file_location(tool, ROOT / "tools" / f"{tool}.py")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [f"tools/{tool}.py", *map(str, words)])
        try:
            run_tool(module.main, getattr(module, f"{tool}_parser")())
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return call


@pytest.fixture
def start_tool(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Starts a tool as its user does: a process of its own, in an empty folder."""

    def start(tool: str, *words: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, ROOT / "tools" / f"{tool}.py", *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return start


@pytest.fixture
def heavy_imports() -> Callable[[str], set[str]]:
    """Says what a tool imports, of what takes a while, before it reads its command line: --help waits for it."""

    def find(tool: str) -> set[str]:
        file = str(ROOT / "tools" / f"{tool}.py")
        code = f"import runpy, sys; runpy.run_path({file!r}); print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return {"torch", "numpy", "pydantic"} & set(done.stdout.split())

    return find


@pytest.fixture
def conditions() -> Conditions:
    """Those of an invented benchmark."""
    return Conditions(
        device="Example CPU",
        backend="cpu",
        torch="2.15.0",
        precision="float32",
        tf32=False,
        channels_last=False,
        compiled=False,
        fused=True,
        training=False,
        threads=2,
        isolated=False,
    )


@pytest.fixture
def benchmark(conditions: Conditions) -> Callable[..., BenchmarkRecord]:
    """Makes a record of invented times: of each model the median in ms for an image, of a batch as many times that."""

    def make(
        ms: Mapping[str, float],
        sizes: tuple[tuple[int, int], ...] = ((64, 64),),
        batches: tuple[int, ...] = (1, 4),
        parts: tuple[str, ...] = ("trunk",),
        **changes: object,
    ) -> BenchmarkRecord:
        baseline = next(iter(ms))
        counted = [
            Counted(
                what="trunk",
                size=size,
                macs={"backbone": 10**9},
                other_macs=10**9,
                weight_bytes=8 * 10**6,
                activation_bytes=4 * 10**6,
            )
            for size in sizes
        ]
        models = tuple(
            Model(
                name=name,
                source=name,
                whole=False,
                backbone=Backbone(name=name, type="FVNet"),
                parameters={"backbone": 10**6},
                fused="not fused",
                counted=counted,
            )
            for name in ms
        )
        measurements = tuple(
            Measurement(
                model=name,
                case=Case(what=part, size=size, batch=batch),
                times=Times(
                    p50_ms=of * batch,
                    p90_ms=1.5 * of * batch,
                    p99_ms=2 * of * batch,
                    mean_ms=1.25 * of * batch,
                    n=6,
                    rounds=6,
                ),
                ratio=Ratio(value=ms[baseline] / of, low=ms[baseline] / of * 0.99, high=ms[baseline] / of * 1.01),
                round_ms=(of * batch,) * 6,
            )
            for part, size, batch, (name, of) in itertools.product(parts, sizes, batches, ms.items())
        )
        fields = dict(
            updated=datetime(2026, 1, 2, tzinfo=timezone.utc),
            finished=True,
            conditions=conditions,
            bandwidth=1e9,
            baseline=baseline,
            models=models,
            measurements=measurements,
        )
        return BenchmarkRecord(**(fields | changes))

    return make
