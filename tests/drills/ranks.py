"""The processes of a distributed run on one CPU: started, compared, killed and stopped.

python tests/drills/ranks.py curves [--plot FILE]   the same losses with 1, 2 and 4 processes
python tests/drills/ranks.py dies                   a process is killed
python tests/drills/ranks.py hangs                  a process stands still
python tests/drills/ranks.py nonfinite              one process's loss is not finite
python tests/drills/ranks.py stops                  all processes get SIGTERM

Processes are forked with the variables that torchrun would set; tools/dist_train.sh itself is tested with the suite.
"""

import argparse
import json
import os
import re
import signal
import socket
import tempfile
import time
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from warm import RETINANET, SEMANTIC_FPN, Child

from fvnet_mm.data.semantic_shapes import write_ade20k_shapes
from fvnet_mm.data.shapes import write_coco_shapes
from fvnet_mm.records.reading import read_record

STEPS = 12
EARLY, LATE = 1e-5, 1e-3
"""How far apart losses may be, as a share of them, in the first half of the steps and later: sums over a batch are in
another order, and in float32 rounding grows from step to step."""


@HOOKS.register_module()
class FaultOnRank(Hook):
    """Does something to the process of rank 1 within an iteration."""

    def __init__(self, fault: str, iteration: int) -> None:
        self.fault, self.iteration = fault, iteration

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict) -> None:
        if runner.iter + 1 != self.iteration or runner.rank != 1:
            return
        if self.fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.fault == "hangs":
            _stand_still()
        elif self.fault == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            data_batch["inputs"] = [image.float() * float("nan") for image in data_batch["inputs"]]


def _stand_still() -> None:
    time.sleep(600)


class Ranks:
    """The processes of one run."""

    def __init__(self, log: Path, count: int, *words: object) -> None:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        shared = dict(WORLD_SIZE=count, MASTER_ADDR="localhost", MASTER_PORT=port, LOCAL_WORLD_SIZE=count)
        self.children = [
            Child(
                log.with_suffix(f".{rank}.log"),
                *words,
                *(("--launcher", "pytorch") if count > 1 else ()),
                **shared,
                RANK=rank,
                LOCAL_RANK=rank,
            )
            for rank in range(count)
        ]

    def wait(self, seconds: float = 1800) -> list[int]:
        """Exit statuses; when one has failed the others have a minute to end, and are then killed."""
        end = time.monotonic() + seconds
        failed = False
        while [child for child in self.children if child.running()] and time.monotonic() < end:
            if not failed and any(child.status for child in self.children):
                failed, end = True, time.monotonic() + 60
            time.sleep(0.01)
        for child in self.children:
            child.kill()
        return [child.status for child in self.children]

    def text(self) -> str:
        """What all of them printed."""
        return "\n".join(child.text() for child in self.children)


def losses(work_dir: Path, passes: int) -> list[float]:
    """The loss of every optimizer step: the mean over its forward passes."""
    lines = [json.loads(line) for line in next(work_dir.glob("*/vis_data/scalars.json")).read_text().splitlines()]
    single = [line["loss"] for line in lines if "loss" in line]
    return [sum(single[i : i + passes]) / passes for i in range(0, len(single), passes)]


def train_in(folder: Path, data: Path, processes: int, images: int, *options: str) -> list[float]:
    """Trains for :data:`STEPS` steps of 16 images and returns their losses."""
    name = f"{processes}x{images}"
    passes = 16 // (processes * images)
    words = ["train", SEMANTIC_FPN, "--data", data, "--work-dir", folder / name, "--cfg-options"]
    words += [f"train_dataloader.batch_size={images}", "auto_scale_lr.base_batch_size=16", *options]
    ranks = Ranks(folder / f"{name}.log", processes, *words)
    statuses = ranks.wait()
    assert statuses == [0] * processes, ranks.text()[-6000:]
    record = read_record(folder / name / "run.json")
    environment = record.environment
    assert (environment.world_size, environment.images_per_device, environment.accumulation) == (
        processes,
        images,
        passes,
    )
    assert record.protocol.effective_batch == 16
    return losses(folder / name, passes)


def curves(folder: Path, plot: Path | None = None, largest: int = 4) -> None:
    """The same losses from the same batch, however many processes share it.

    With SyncBN over the processes where all 16 images go through the network at once. Where gradients are accumulated
    each pass has statistics of its own, so there it is shown with norms that keep theirs.
    """
    data = write_ade20k_shapes(folder / "data", 32, 2, (64, 64))
    # The learning rate of a step is that of its last pass; a constant one leaves nothing else to differ.
    frozen = ["param_scheduler.0.power=0.0", "model.backbone.norm_eval=True", "model.decode_head.norm_cfg.type=GN"]
    frozen += ["model.decode_head.norm_cfg.num_groups=4"]
    found: dict[str, dict[str, list[float]]] = {}
    shares = [(count, 16 // count) for count in (1, 2, 4) if count <= largest]
    for norms, options, splits in (
        ("SyncBN", [], shares),
        ("norms that keep their statistics", frozen, [(1, 16), (largest, 8 // largest)]),
    ):
        found[norms] = {}
        for processes, images in splits:
            passes = 16 // (processes * images)
            label = f"{processes} x {images}" + (f" x {passes} accumulated" if passes > 1 else "")
            found[norms][label] = train_in(folder / norms.split()[0], data, processes, images, *options)
        reference = found[norms]["1 x 16"]
        assert len(reference) == STEPS
        assert min(reference[-3:]) < 0.95 * reference[0], reference
        for label, curve in list(found[norms].items())[1:]:
            apart = [abs(a - b) / a for a, b in zip(reference, curve, strict=True)]
            print(f"{norms}: {label} apart from 1 x 16 by at most {max(apart):.1e} of the loss, over {STEPS} steps")
            assert max(apart[: STEPS // 2]) < EARLY, (label, reference, curve)
            assert max(apart) < LATE, (label, reference, curve)
    if plot:
        draw(found, plot)


def draw(found: dict[str, dict[str, list[float]]], file: Path) -> None:
    """Loss curves, a panel for each kind of norm."""
    import matplotlib.pyplot as plt

    figure, (panels,) = plt.subplots(1, len(found), figsize=(5 * len(found), 3.6), sharey=True, squeeze=False)
    for panel, (norms, of_norms) in zip(panels, found.items(), strict=True):
        for number, (label, curve) in enumerate(of_norms.items()):
            steps = range(1, len(curve) + 1)
            panel.plot(steps, curve, label=label, linewidth=7 - 2 * number, alpha=0.45 + 0.15 * number)
        panel.set_title(norms, fontsize=10)
        panel.set_xlabel("optimizer step")
        panel.legend(title="processes x images", fontsize=8, title_fontsize=8)
    panels[0].set_ylabel("loss")
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def with_fault(folder: Path, fault: str, iteration: int) -> tuple[Path, Path]:
    """A config of which rank 1 comes to harm, and its data."""
    data = write_coco_shapes(folder / "data", 8, 4, (64, 64))
    config = folder / fault / RETINANET.name
    config.parent.mkdir(exist_ok=True)
    hook = f"dict(type='FaultOnRank', fault='{fault}', iteration={iteration})"
    config.write_text(f"_base_ = ['{RETINANET}']\ndefault_hooks = dict(fault={hook})\n")
    return config, data


def dies(folder: Path) -> None:
    """The others end with it, and what is left is resumed."""
    config, data = with_fault(folder, "dies", 5)
    words = ["--data", data, "--work-dir", folder / "work"]
    ranks = Ranks(folder / "dies.log", 2, "train", config, *words)
    statuses = ranks.wait()
    assert statuses[1] == -signal.SIGKILL, ranks.text()[-4000:]
    assert statuses[0] == 2, ranks.text()[-4000:]
    assert "another process of this run has ended" in ranks.text(), ranks.text()[-4000:]
    again = Ranks(folder / "again.log", 2, "train", RETINANET, *words, "--resume")
    assert again.wait() == [0, 0], again.text()[-4000:]
    assert f"resumed from {folder / 'work' / 'epoch_2.pth'}" in again.text(), (
        ranks.text()[-4000:],
        again.text()[:4000],
    )
    print("rank 1 killed in iteration 5 of 6: rank 0 ends, too, and says so; resumed from epoch_2.pth")


def hangs(folder: Path) -> None:
    """The others end within the timeout and say which process hangs, and where."""
    for fault, says in (
        ("hangs", r"is in .*_stand_still"),
        ("stopped", r"does not answer, last seen in .*before_train"),
    ):
        config, data = with_fault(folder, fault, 3)
        words = ["--data", data, "--work-dir", folder / f"{fault}_work", "--cfg-options", "env_cfg.rank_timeout=60"]
        start = time.monotonic()
        ranks = Ranks(folder / f"{fault}.log", 2, "train", config, *words)
        statuses = ranks.wait()
        assert 70 in statuses, ranks.text()[-4000:]
        sentence = re.search(r"error: the training hangs: .*", ranks.text())[0]
        assert re.search(rf"rank 1 \(process \d+ on \S+\) {says}", sentence), sentence
        print(f"after {time.monotonic() - start:.0f} s: {sentence}")


def nonfinite(folder: Path) -> None:
    """All processes leave out the same step, and end together at the next."""
    config, data = with_fault(folder, "nan", 2)
    words = ["--data", data, "--work-dir", folder / "work"]
    ranks = Ranks(folder / "skip.log", 2, "train", config, *words, "--skip-nonfinite", 1)
    assert ranks.wait() == [0, 0], ranks.text()[-4000:]
    report = json.loads((folder / "work" / "nonfinite_iter_2.json").read_text())
    assert [part["loss_is_finite"] for part in report["processes"]] == [True, False]
    assert [len(part["images"]) for part in report["processes"]] == [2, 2]
    stopped = Ranks(folder / "stop.log", 2, "train", config, "--data", data, "--work-dir", folder / "other")
    assert 2 in stopped.wait(), stopped.text()[-4000:]
    assert "iteration 2 has a loss or a gradient that is no finite number" in stopped.text()
    print("a loss of rank 1 that is NaN: the step is left out by both, or ends both")


def stops(folder: Path) -> None:
    """SIGTERM to all, as Slurm sends it, workers included: one checkpoint, status 143, and an exact resumption."""
    data = write_coco_shapes(folder / "data", 8, 4, (64, 64))
    words = ["--data", data, "--cfg-options", "train_cfg.max_epochs=40", "--work-dir"]
    ranks = Ranks(folder / "first.log", 2, "train", RETINANET, *words, folder / "work")
    while not (folder / "work" / "epoch_1.pth").exists():
        time.sleep(0.05)
        assert ranks.children[0].running(), ranks.text()[-4000:]
    for child in ranks.children:
        child.send(signal.SIGTERM, group=True)
    statuses = ranks.wait()
    assert statuses == [143, 143], (statuses, ranks.text()[-4000:])
    assert "Traceback" not in ranks.text(), ranks.text()[-4000:]
    print(re.search(r"stopped by SIGTERM.*", ranks.text())[0])


DRILLS = {drill.__name__: drill for drill in (curves, dies, hangs, nonfinite, stops)}


def main() -> None:
    """Runs the drills that are named; an assertion that fails is a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("drills", nargs="+", choices=DRILLS)
    parser.add_argument("--plot", type=Path, help="where to draw the curves")
    parser.add_argument("--largest", type=int, default=4, help="number of processes of the curves")
    arguments = parser.parse_args()
    for name in arguments.drills:
        with tempfile.TemporaryDirectory() as folder:
            if name == "curves":
                curves(Path(folder), arguments.plot, arguments.largest)
            else:
                DRILLS[name](Path(folder))


if __name__ == "__main__":
    main()
