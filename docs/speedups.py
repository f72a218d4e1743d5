"""What the suite's speed-ups are worth on this machine, measured beside what they replace.

    python docs/speedups.py PART       measures a part (see --help), and keeps the result
    python docs/speedups.py            puts the results into docs/speedups.md
    python docs/speedups.py --check    exits with 1 where they are not there

Processor seconds are measured, which a machine that is busy with other things does not lengthen as it does the clock's,
workers included; set OMP_NUM_THREADS=1, or threads that wait for each other count, too. Rounds are interleaved (stock,
suite, stock, suite, ...) and a round's two times divided; a ratio's interval is Student's, over the rounds' logarithms.
The results are kept in docs/speedups.json. Needs Linux.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from coco_scene import TRAINING_IMAGES, scene
from interleaving import Times, interleaved
from marked import table, update

from fvnet_mm.files import write_text
from fvnet_mm.report.statistics.seeds import mean_interval

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "docs" / "speedups.json", ROOT / "docs" / "speedups.md"
TITLES = {
    "evaluation": "COCO evaluation, {images:,} images x 100 detections: pycocotools, faster-coco-eval",
    "metric": "From a detector's outputs on {images:,} images to figures and result file: mmdet's metric, the suite's",
    "segmentation": "mIoU of 100 label maps of 512 x 683, 150 classes, on the CPU: mmseg's metric, the suite's",
    "startup": "From the command to the first logged iteration, {images:,} images: mmdet's script, tools/train.py",
    "startup_cold": "The same for the first time on a data set, every image decoded once",
    "startup_small": "From the command to the first logged iteration, {images:,} images",
    "startup_small_cold": "The same for the first time",
    "training": "Training iteration, RetinaNet-FVNet-S on the demo, {threads} threads: mmdet's script, tools/train.py",
}
PARTS = ("evaluation", "metric", "segmentation", "startup", "training")


def timed(call: Callable[[], object]) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.process_time()
        call()
        return time.process_time() - start


def measure_evaluation(rounds: int, images: int) -> dict[str, dict]:
    from faster_coco_eval import COCO, COCOeval_faster
    from pycocotools.coco import COCO as PycocotoolsCoco
    from pycocotools.cocoeval import COCOeval

    truth, outputs = scene(images, 100)
    detections = []
    for output in outputs:
        corners = output["bboxes"].astype(float)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
        for box, score, label in zip(boxes, output["scores"].tolist(), output["labels"].tolist(), strict=True):
            detections.append(dict(image_id=output["img_id"], bbox=box, score=score, category_id=label + 1))
    figures = {}

    def evaluate(name: str, coco_class: type, evaluation_class: type) -> float:
        coco = coco_class()
        coco.dataset = json.loads(json.dumps(truth))
        own = json.loads(json.dumps(detections))

        def call() -> None:
            coco.createIndex()
            evaluation = evaluation_class(coco, coco.loadRes(own), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            figures[name] = evaluation.stats

        return timed(call)

    run = {
        "stock": lambda: evaluate("stock", PycocotoolsCoco, COCOeval),
        "suite": lambda: evaluate("suite", COCO, COCOeval_faster),
    }
    times = interleaved(run, rounds)
    difference = float(np.abs(np.asarray(figures["stock"]) - figures["suite"]).max())
    return {"evaluation": dict(times=times, images=images, largest_difference=difference)}


def measure_metric(rounds: int, images: int) -> dict[str, dict]:
    from mmdet.evaluation import CocoMetric

    from fvnet_mm.engine.coco_metric import FullCocoMetric

    truth, outputs = scene(images, 100)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "truth.json")
        file.write_text(json.dumps(truth))

        def metric(kind: type) -> float:
            made = kind(str(file), outfile_prefix=f"{folder}/{kind.__name__}")
            made.dataset_meta = dict(classes=[entry["name"] for entry in truth["categories"]])
            return timed(lambda: made.compute_metrics([({}, dict(output)) for output in outputs]))

        times = interleaved({"stock": lambda: metric(CocoMetric), "suite": lambda: metric(FullCocoMetric)}, rounds)
    return {"metric": dict(times=times, images=images)}


def measure_segmentation(rounds: int) -> dict[str, dict]:
    import torch
    from mmseg.evaluation import IoUMetric

    from fvnet_mm.engine.iou_metric import ConfusionIoUMetric

    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(100):
        truth, other = (torch.randint(0, 150, (1, 512, 683), generator=generator) for _ in range(2))
        prediction = torch.where(torch.rand(truth.shape, generator=generator) < 0.6, truth, other)
        truth = truth.to(torch.uint8)
        samples.append(dict(pred_sem_seg=dict(data=prediction), gt_sem_seg=dict(data=truth)))

    def metric(kind: type) -> float:
        made = kind()
        made.dataset_meta = dict(classes=[str(number) for number in range(150)])

        def call() -> None:
            for sample in samples:
                made.process({}, [sample])
            made.evaluate(len(samples))

        return timed(call)

    times = interleaved({"stock": lambda: metric(IoUMetric), "suite": lambda: metric(ConfusionIoUMetric)}, rounds)
    return {"segmentation": dict(times=times)}


def ratio_in_words(times: Times) -> str:
    """Stock's time over the suite's, as the geometric mean of the rounds, with its 95 % interval."""
    logs = np.log(np.array(times["stock"]) / np.array(times["suite"]))
    if len(logs) < 2:
        return f"{np.exp(logs.mean()):.2f} (one round)"
    interval = mean_interval(logs)
    low, high = np.exp(interval.low), np.exp(interval.high)
    return f"{np.exp(logs.mean()):.2f} ({low:.2f} to {high:.2f}, {len(logs)} rounds)"


def measured_parts(results: dict[str, dict]) -> str:
    """A table of what was measured, and on what."""
    rows = []
    for name, title in TITLES.items():
        if name in results:
            result = results[name]
            stock, suite = (float(np.median(result["times"][kind])) for kind in ("stock", "suite"))
            ratio = ratio_in_words(result["times"])
            rows.append((title.format(**result), f"{stock:.3g} s", f"{suite:.3g} s", ratio))
    machines = sorted({result["machine"] for result in results.values()})
    return f"{table(('what', 'stock', 'suite', 'times faster'), 'lrrr', rows)}\n\nMeasured on: {'; '.join(machines)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=PARTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--images",
        type=int,
        help=f"of the evaluation (default 5,000), or to train on at the start ({TRAINING_IMAGES:,}, as many as COCO's)",
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 where the page is not what was measured")
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    match arguments.part:
        case "evaluation":
            measured = measure_evaluation(arguments.rounds, arguments.images or 5000)
        case "metric":
            measured = measure_metric(arguments.rounds, arguments.images or 5000)
        case "segmentation":
            measured = measure_segmentation(arguments.rounds)
        case "startup":
            from started_trainings import measure_startup  # loads the libraries

            measured = measure_startup(arguments.rounds, arguments.images or TRAINING_IMAGES)
        case "training":
            from started_trainings import measure_training

            measured = measure_training(arguments.rounds)
        case _:
            update(PAGE, "speedups", measured_parts(results), "python docs/speedups.py", check=arguments.check)
            return
    machine = f"{os.cpu_count()} cores ({platform.machine()}), torch {version('torch')}"
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {name: result | dict(machine=machine) for name, result in measured.items()}
    write_text(RESULTS, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
