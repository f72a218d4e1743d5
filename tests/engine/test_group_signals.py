"""A signal to all processes of a run, as ``timeout``, Slurm and ``kill -- -PID`` send it, workers of evaluation too."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader

from fvnet_mm.engine.loaders import loader_of
from fvnet_mm.records.reading import read_record

ROOT = Path(__file__).parents[2]
RETINANET = ROOT / "tests" / "drills" / "tiny_retinanet.py"


def test_workers_of_evaluation_survive_a_signal_to_the_group(tiny_coco: Path, tmp_path: Path) -> None:
    """They persist from the first evaluation on, and get the signal while the second epoch is trained."""
    words = [sys.executable, ROOT / "tools" / "train.py", RETINANET, "--data", tiny_coco, "--work-dir", tmp_path]
    words += ["--cfg-options", "train_cfg.max_epochs=400", "val_dataloader.num_workers=1"]
    words += ["val_dataloader.persistent_workers=True"]
    with (tmp_path / "printed").open("w") as printed:
        process = subprocess.Popen(
            list(map(str, words)), stdout=printed, stderr=printed, start_new_session=True, cwd=ROOT
        )
    try:
        until = time.monotonic() + 300
        # The second checkpoint: the first evaluation, which starts the workers, is over.
        while not (tmp_path / "epoch_2.pth").exists() and time.monotonic() < until and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None, (tmp_path / "printed").read_text()[-3000:]
        os.killpg(process.pid, signal.SIGTERM)
        status = process.wait(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = (tmp_path / "printed").read_text()
    assert status == 143, text[-3000:]
    assert "stopped by SIGTERM; --resume goes on from epoch_" in text
    assert "Traceback" not in text
    assert read_record(tmp_path / "run.json").status == "running"


class Loop:
    """As much of one as tells its loader; others do not count."""

    def __init__(self, loader: DataLoader) -> None:
        self.dataloader = loader


def test_a_dead_worker_is_that_of_its_own_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is read when torch tells of it."""
    monkeypatch.setattr("fvnet_mm.engine.loaders.BaseLoop", Loop)
    settings = dict(num_workers=1, multiprocessing_context="fork")
    validation = Loop(DataLoader([1, 2, 3, 4], persistent_workers=True, **settings))
    training = Loop(DataLoader([1, 2, 3, 4], **settings))
    runner = SimpleNamespace(_train_loop=training, _val_loop=validation, _test_loop=None)
    next(iter(validation.dataloader))
    training.dataloader_iterator = SimpleNamespace(_batches=iter(training.dataloader))  # of a schedule of iterations
    (evaluates,) = validation.dataloader._iterator._workers
    (trains,) = training.dataloader_iterator._batches._workers
    assert loader_of(runner, evaluates.pid) == "val_dataloader"
    assert loader_of(runner, trains.pid) == "train_dataloader"
    assert loader_of(runner, os.getpid()) is None
