"""A few timed steps of a job, by the tool that will train it: what an image costs, and what a run writes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fvnet_mm.data.class_shapes import write_class_shapes
from fvnet_mm.data.semantic_shapes import write_ade20k_shapes
from fvnet_mm.data.shapes import write_coco_shapes
from fvnet_mm.errors import UserError
from fvnet_mm.files import write_text, written_or_said
from fvnet_mm.places import ROOT
from fvnet_mm.records.parts import Part
from fvnet_mm.records.reading import RECORD, read_record
from fvnet_mm.suite.facts import Facts
from fvnet_mm.suite.jobs import Job
from fvnet_mm.suite.schema import DEMO, Settings
from fvnet_mm.suite.training import reason, threads_environment

_DATA: dict[str, tuple[Callable[..., Path], tuple[int, int]]] = {
    "Detection": (write_coco_shapes, (640, 480)),
    "Segmentation": (write_ade20k_shapes, (683, 512)),
    "Classification": (write_class_shapes, (500, 375)),
}
"""By task: what generates the images, and (width, height), the most frequent one of COCO, ADE20K and ImageNet."""

_LOADER = "{0}_dataloader.num_workers=0 {0}_dataloader.persistent_workers=False"
_ALL_DETECTIONS = {"retinanet": "model.test_cfg.score_thr=0", "mask_rcnn": "model.test_cfg.rcnn.score_thr=0"}
"""By framework: what makes an untrained detector find as many objects in each image as it may."""


class Timing(Part):
    """What was measured of a job.

    Attributes:
        device: As the run's record names it.
        threads: Of the process.
        steps, warm_up: That were timed, and that went before.
        batch: Images of each step.
        train_seconds: Of an image: forward, backward and the optimizer's step; the median over the steps.
        load_seconds: Of a training image: reading and transforming it, in one process.
        test_seconds, test_load_seconds: The same of an image that is evaluated; the mean.
        checkpoint_bytes: Of one file.
        prediction_bytes: Of one image.
        other_bytes: Of all else in the work dir, such as a demo's data.
        peak_memory: Bytes on the GPU; None on a CPU.
    """

    device: str | None
    threads: int | None
    steps: int
    warm_up: int
    batch: int
    train_seconds: float
    load_seconds: float
    test_seconds: float
    test_load_seconds: float
    checkpoint_bytes: int
    prediction_bytes: float
    other_bytes: int
    peak_memory: int | None = None

    def hours(self, facts: Facts, on_gpu: bool) -> float:
        """Of a whole run on the device that was measured.

        Beside a GPU images are loaded while it computes; on a CPU both take turns on the same cores.
        """

        def each(compute: float, load: float) -> float:
            return max(compute, load / max(facts.workers, 1)) if on_gpu else compute + load

        training = facts.trained_images * each(self.train_seconds, self.load_seconds)
        evaluation = facts.evaluated_images * each(self.test_seconds, self.test_load_seconds)
        return (training + evaluation) / 3600

    def disk_bytes(self, facts: Facts) -> float:
        """Of a run's work dir, at most."""
        predictions = facts.val_images * self.prediction_bytes
        return facts.checkpoints * self.checkpoint_bytes + predictions + self.other_bytes


def read_timing(file: Path) -> Timing | None:
    """An earlier measurement; None where there is none, or one that cannot be read."""
    try:
        return Timing.model_validate_json(file.read_bytes())
    except (OSError, ValueError):
        return None


def measure(job: Job, facts: Facts, steps: int, warm_up: int, small: bool, threads: int | None) -> Timing:
    """Trains a job for a few steps from random weights, evaluates a few images, and looks at what was written.

    Args:
        job: Of a suite; its own data is not read unless it is the demo's, but images generated in its layout.
        facts: Of the job.
        steps: To time; fewer where the demo's images are fewer.
        warm_up: To take before.
        small: Take the smallest batch that the model works with in place of the job's own, and float32, as on a CPU.
        threads: Of the process; None for torch's own choice.

    Raises:
        UserError: The training failed, or the demo has too few images.
    """
    # Norms over a pooled vector, as segmentors have, need two images.
    batch = min(facts.batch, 1 if facts.task == "Detection" else 2) if small else facts.batch
    passes = steps + warm_up
    if job.data == DEMO and facts.by_epoch:
        passes = min(passes, facts.set_images // batch)
        if passes <= warm_up:
            raise UserError(
                f"the demo's {facts.set_images} images are {passes} batches of {batch}, and steps are timed after "
                f"{warm_up} to warm up; set train_dataloader.batch_size to less."
            )
    with tempfile.TemporaryDirectory(prefix="fvnet_mm_plan_") as place:
        folder = Path(place)
        data = job.data
        shown = facts.val_images if data == DEMO else 4 * facts.val_batch if small else 64
        if job.data != DEMO:
            write, size = _DATA[facts.task]
            least = 12 if facts.task == "Classification" else 1  # one of each class
            shown = max(shown, least)
            data = str(write(folder / "data", max(passes * batch, least), shown, size))
        options = _options(job, facts, batch, passes)
        settings = job.settings.overridden(Settings(scratch=True, cfg_options=tuple(options)))
        alone = dict(amp=None, cuda_graphs=False) if small else {}  # a CPU trains in float32, and launches no kernels
        settings = settings.model_copy(update=dict(auto_scale_lr=False, **alone))
        run = replace(job, data=data, work_dir=folder / "run", settings=settings)
        log = folder / "log"
        with log.open("wb") as out:
            status = subprocess.run(
                [sys.executable, str(ROOT / "tools" / "train.py"), *run.words()],
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | threads_environment(threads),
                check=False,
            ).returncode
        if status != 0:
            raise UserError(reason(log, 0, status))
        return _read(run.work_dir, batch, warm_up, facts.val_batch, shown)


def _options(job: Job, facts: Facts, batch: int, passes: int) -> list[str]:
    options = [
        f"train_dataloader.batch_size={batch}",
        f"auto_scale_lr.base_batch_size={batch}",
        "default_hooks.logger.interval=1",
        "log_processor.window_size=1",
        *_LOADER.format("train").split(),
        *_LOADER.format("val").split(),
    ]
    options += [option for name, option in _ALL_DETECTIONS.items() if facts.framework == name]
    if not facts.by_epoch:
        names = ("train_cfg.max_iters", "train_cfg.val_interval", "default_hooks.checkpoint.interval")
        return [*options, *(f"{name}={passes}" for name in names)]
    # After the job's own options, which may take fewer.
    once = [f"{wrapper}.times=1" for wrapper in facts.repeated]
    return [*options, *once, f"{facts.data_set}.indices={passes * batch}", "train_cfg.max_epochs=1"]


def _read(work_dir: Path, batch: int, warm_up: int, val_batch: int, evaluated: int) -> Timing:
    record = read_record(work_dir / RECORD)
    (scalars,) = work_dir.glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in scalars.read_text(encoding="utf-8").splitlines()]
    training = [line for line in lines if "lr" in line][warm_up:]
    last = [line for line in lines if "lr" not in line][-1]
    sizes = {path: path.stat().st_size for path in work_dir.rglob("*") if path.is_file()}
    checkpoints = [size for path, size in sizes.items() if path.suffix == ".pth"]
    predictions = sum(size for path, size in sizes.items() if path.relative_to(work_dir).parts[0] == "predictions")
    return Timing(
        device=record.environment.device,
        threads=record.environment.threads,
        steps=len(training),
        warm_up=warm_up,
        batch=batch,
        train_seconds=statistics.median(line["time"] - line["data_time"] for line in training) / batch,
        load_seconds=statistics.median(line["data_time"] for line in training) / batch,
        test_seconds=(last["time"] - last["data_time"]) / val_batch,
        test_load_seconds=last["data_time"] / val_batch,
        checkpoint_bytes=max(checkpoints),
        prediction_bytes=predictions / evaluated,
        other_bytes=sum(sizes.values()) - sum(checkpoints) - predictions,
        peak_memory=record.times.peak_memory,
    )


def keep(timing: Timing, file: Path) -> None:
    """Writes a measurement, for the next plan.

    Raises:
        UserError: The file cannot be written.
    """
    with written_or_said(f"the measurement {file}"):
        write_text(file, timing.model_dump_json(indent=1) + "\n")
