"""What the suite's speed-ups are worth on this machine, measured beside what they replace.

    python docs/speedups.py evaluation|metric|segmentation|startup|training   measures, and keeps the result
    python docs/speedups.py                                              puts the results into docs/speedups.md
    python docs/speedups.py --check                                      exits with 1 where they are not there

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
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from fvnet_mm.files import replacing
from fvnet_mm.report.statistics.seeds import mean_interval

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- speedups:begin -->", "<!-- speedups:end -->"
RESULTS, PAGE = ROOT / "docs" / "speedups.json", ROOT / "docs" / "speedups.md"
CONFIG = ROOT / "configs" / "retinanet_fvnet_s_coco.py"
TITLES = {
    "evaluation": "COCO evaluation, {images:,} images x 100 detections: pycocotools, faster-coco-eval",
    "metric": "From a detector's outputs on {images:,} images to figures and result file: mmdet's metric, the suite's",
    "segmentation": "mIoU of 100 label maps of 512 x 683, 150 classes, on the CPU: mmseg's metric, the suite's",
    "startup": "From the command to the first logged iteration, {images:,} images: mmdet's script, tools/train.py",
    "startup_cold": "The same for the first time on a data set, every image decoded once",
    "training": "Training iteration, RetinaNet-FVNet-S on the demo, {threads} threads: mmdet's script, tools/train.py",
}

Times = dict[str, list[float]]


def interleaved(run: dict[str, Callable[[], float]], rounds: int) -> Times:
    """Seconds of each of the two, round by round."""
    times: Times = {name: [] for name in run}
    for number in range(rounds):
        for name, measure in run.items():
            times[name].append(measure())
        print(f"round {number + 1}:", {name: round(values[-1], 3) for name, values in times.items()}, flush=True)
    return times


def timed(call: Callable[[], object]) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.process_time()
        call()
        return time.process_time() - start


def scene(images: int, detections: int, classes: int = 80) -> tuple[dict, list[dict]]:
    """Annotations as many and as large as COCO's, and mmdet's outputs of a middling detector."""
    rng = np.random.default_rng(0)
    annotations, outputs = [], []
    for image in range(1, images + 1):
        count = int(rng.poisson(7.3))
        corners = rng.random((count, 2)) * [560, 400]
        boxes = np.concatenate([corners, np.exp(rng.normal(3.7, 1, (count, 2))).clip(4, 400)], 1)
        labels = rng.choice(rng.choice(classes, 3), count)
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            crowd = int(rng.random() < 0.02)
            entry = dict(id=len(annotations) + 1, image_id=image, category_id=label + 1, bbox=box, iscrowd=crowd)
            annotations.append(entry | dict(area=box[2] * box[3]))
        chosen = rng.integers(0, max(count, 1), detections)
        near = rng.random(detections) < (0.5 if count else 0)
        found = np.concatenate([rng.random((detections, 2)) * 500, rng.random((detections, 2)) * 200 + 4], 1)
        found_labels = rng.integers(0, classes, detections)
        if count:
            found[near] = boxes[chosen[near]] + rng.normal(0, 4, (near.sum(), 4))
            found_labels[near] = np.where(rng.random(near.sum()) < 0.7, labels[chosen[near]], found_labels[near])
        found[:, 2:] = found[:, :2] + found[:, 2:].clip(1)
        scores = rng.beta(1, np.where(near, 2, 12)).astype(np.float32)
        outputs.append(dict(img_id=image, bboxes=found.astype(np.float32), scores=scores, labels=found_labels))
    names = [dict(id=number + 1, name=f"class {number}") for number in range(classes)]
    files = [dict(id=number, file_name=f"{number}.jpg", width=640, height=480) for number in range(1, images + 1)]
    return dict(info={}, images=files, annotations=annotations, categories=names), outputs


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


def configs(folder: Path, data: Path | None, iterations: int, pure: bool) -> tuple[Path, Path]:
    """Writes one config twice, for mmdet's script and for the suite's: the demo's, or that of a folder.

    Args:
        folder: To write into.
        data: A folder in COCO's layout; None for the demo.
        iterations: Of an epoch between two log lines.
        pure: Whether the stock one has nothing of the suite but the trunk, not even the hook that makes data and
            random states those of the suite.
    """
    from fvnet_mm.cli import tool_parser
    from fvnet_mm.engine.batch import plan_batch
    from fvnet_mm.engine.config import load_config
    from fvnet_mm.engine.data_source import select_data
    from fvnet_mm.engine.weights import remove_pretrained

    words = [str(CONFIG), "--work-dir", str(folder / "suite"), "--seed", "0"]
    arguments = tool_parser("").parse_args(words + (["--demo"] if data is None else ["--data", str(data)]))
    cfg = load_config(arguments)
    select_data(cfg, arguments)
    remove_pretrained(cfg.model)
    cfg.default_hooks.logger.interval = iterations
    cfg.train_dataloader.num_workers = 1
    if data is not None:
        cfg.train_dataloader.dataset.pipeline[2].scale = (64, 64)
    plan_batch(cfg, 10**6, 1, False)
    cfg.dump(folder / "suite.py")
    cfg.runner_type, cfg.work_dir = "Runner", str(folder / "stock")
    if pure:
        cfg.custom_imports.imports = ["fvnet_mm.backbones"]
        cfg.custom_hooks = []
        cfg.default_hooks.checkpoint = dict(type="CheckpointHook", interval=1)
        cfg.train_cfg.type = "EpochBasedTrainLoop"
        del cfg.train_dataloader.worker_init_fn
    cfg.dump(folder / "stock.py")
    return folder / "stock.py", folder / "suite.py"


def processor_seconds(process: int) -> float:
    """Of a process and its living descendants, as Linux counts them."""
    fields = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended since
            words = file.read_text().rpartition(")")[2].split()
            fields[int(file.parent.name)] = (int(words[1]), sum(map(int, words[11:15])))
    family = {process}
    while more := {number for number, (parent, _) in fields.items() if parent in family} - family:
        family |= more
    return sum(fields[number][1] for number in family & fields.keys()) / os.sysconf("SC_CLK_TCK")


def until_logged(command: list[str], work_dir: Path, lines: int) -> tuple[list[float], list[dict]]:
    """Starts a training anew; processor seconds up to each of its first log lines, and the lines. Ends it then."""
    shutil.rmtree(work_dir, ignore_errors=True)
    seconds: list[float] = []
    with tempfile.TemporaryFile() as output:
        environment = dict(os.environ, PYTHONPATH=str(ROOT))
        process = subprocess.Popen([sys.executable, *command], stdout=output, stderr=output, env=environment, cwd=ROOT)
        try:
            while True:
                files = work_dir.glob("*/vis_data/scalars.json")
                found = [line for file in files for line in file.read_text().splitlines() if '"loss"' in line]
                seconds += [processor_seconds(process.pid)] * (len(found) - len(seconds))
                if len(found) >= lines:
                    return seconds[:lines], [json.loads(line) for line in found[:lines]]
                if process.poll() is not None:
                    output.seek(0)
                    raise RuntimeError(output.read().decode()[-2000:])
                time.sleep(0.05)
        finally:
            process.terminate()
            process.wait()


def measure_startup(rounds: int, data: Path) -> dict[str, dict]:
    images = len(json.loads((data / "annotations" / "instances_train2017.json").read_bytes())["images"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # so that the first time is the first
        stock, suite = configs(folder, data, 1, pure=True)
        (folder / "cache").rename(folder / "left")
        work = folder / "suite_run"
        train = ["tools/train.py", str(suite), "--work-dir", str(work)]
        run = {
            "stock": lambda: until_logged(["-W", "ignore", "docs/stock_train.py", str(stock)], folder / "stock", 1)[0][
                0
            ],
            "suite": lambda: until_logged(train, work, 1)[0][0],
        }
        cold = interleaved(run, 1)
        warm = interleaved(run, rounds)
    return {"startup_cold": dict(times=cold, images=images), "startup": dict(times=warm, images=images)}


def measure_training(rounds: int) -> dict[str, dict]:
    import torch

    curves: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stock, suite = configs(folder, None, 8, pure=False)

        work = folder / "suite_run"

        def run(kind: str, command: list[str], work_dir: Path) -> float:
            seconds, lines = until_logged(command, work_dir, 3)
            curves[kind] = [line["loss"] for line in lines]
            return (seconds[-1] - seconds[0]) / (lines[-1]["iter"] - lines[0]["iter"])

        times = interleaved(
            {
                "stock": lambda: run("stock", ["-W", "ignore", "docs/stock_train.py", str(stock)], folder / "stock"),
                "suite": lambda: run("suite", ["tools/train.py", str(suite), "--work-dir", str(work)], work),
            },
            rounds,
        )
    return {"training": dict(times=times, losses=curves, threads=torch.get_num_threads())}


def ratio_in_words(times: Times) -> str:
    """Stock's time over the suite's, as the geometric mean of the rounds, with its 95 % interval."""
    logs = np.log(np.array(times["stock"]) / np.array(times["suite"]))
    if len(logs) < 2:
        return f"{np.exp(logs.mean()):.2f} (one round)"
    interval = mean_interval(logs)
    low, high = np.exp(interval.low), np.exp(interval.high)
    return f"{np.exp(logs.mean()):.2f} ({low:.2f} to {high:.2f}, {len(logs)} rounds)"


def page(results: dict[str, dict]) -> str:
    """The page, with a table of what was measured between its markers."""
    rows = []
    for name, title in TITLES.items():
        if name in results:
            result = results[name]
            stock, suite = (float(np.median(result["times"][kind])) for kind in ("stock", "suite"))
            words = title.format(**result)
            rows.append(f"| {words} | {stock:.3g} s | {suite:.3g} s | {ratio_in_words(result['times'])} |")
    machines = sorted({result["machine"] for result in results.values()})
    table = ["| what | stock | suite | times faster |", "|---|---:|---:|---:|", *rows]
    text = "\n".join([BEGIN, *table, "", f"Measured on: {'; '.join(machines)}.", END])
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + text + rest.partition(END)[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=["evaluation", "metric", "segmentation", "startup", "training"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000, help="of the evaluation")
    parser.add_argument("--data", type=Path, help="a folder in COCO's layout for startup, as large as COCO's")
    parser.add_argument("--check", action="store_true", help="exit with 1 where the page is not what was measured")
    arguments = parser.parse_args()
    if arguments.part == "startup" and arguments.data is None:
        parser.error("startup takes --data DIR, a folder in COCO's layout")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    match arguments.part:
        case "evaluation":
            measured = measure_evaluation(arguments.rounds, arguments.images)
        case "metric":
            measured = measure_metric(arguments.rounds, arguments.images)
        case "segmentation":
            measured = measure_segmentation(arguments.rounds)
        case "startup":
            measured = measure_startup(arguments.rounds, arguments.data)
        case "training":
            measured = measure_training(arguments.rounds)
        case _:
            if arguments.check and page(results) != PAGE.read_text(encoding="utf-8"):
                sys.exit(f"{PAGE.name} is not what {RESULTS.name} says; run python docs/speedups.py")
            if not arguments.check:
                with replacing(PAGE) as temporary:
                    temporary.write_text(page(results), encoding="utf-8")
            return
    machine = f"{os.cpu_count()} cores ({platform.machine()}), torch {version('torch')}"
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {name: result | dict(machine=machine) for name, result in measured.items()}
    with replacing(RESULTS) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
