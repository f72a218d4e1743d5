"""Whole runs in this process that are stopped, cut short or spoilt, on a tiny generated set."""

import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from fvnet_mm.engine.checkpoint import digest_file, read_checkpoint
from fvnet_mm.lock import LOCK, OWNER
from fvnet_mm.records.reading import read_record

Run = Callable[..., int]
DRILLS = Path(__file__).parents[1] / "drills"
RETINANET, SEMANTIC_FPN = DRILLS / "tiny_retinanet.py", DRILLS / "tiny_semantic_fpn.py"


@HOOKS.register_module()
class SignalAt(Hook):
    """Sends this process a signal within an iteration, or within the evaluation after an epoch."""

    def __init__(self, number: int, iteration: int | None = None, epoch: int | None = None) -> None:
        self.number, self.iteration, self.epoch = number, iteration, epoch

    def before_train_iter(self, runner: Runner, **_: object) -> None:
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), self.number)

    def before_val_iter(self, runner: Runner, **_: object) -> None:
        if runner.epoch == self.epoch:
            os.kill(os.getpid(), self.number)


@HOOKS.register_module()
class SpoilImages(Hook):
    """Makes the images of some iterations infinite, once each."""

    def __init__(self, iterations: tuple[int, ...]) -> None:
        self.iterations = set(iterations)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict) -> None:
        if runner.iter + 1 in self.iterations:
            data_batch["inputs"] = [image.float() * float("inf") for image in data_batch["inputs"]]


@HOOKS.register_module()
class KillsWorkers(Hook):
    """Ends the workers of the loaders as a system does whose memory is short."""

    def before_train_iter(self, runner: Runner, **_: object) -> None:
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)


@HOOKS.register_module()
class OutgrowsMemory(Hook):
    """Asks for an exbibyte within an iteration, within the evaluation after an epoch, or before a test."""

    def __init__(self, iteration: int | None = None, epoch: int | None = None) -> None:
        self.iteration, self.epoch = iteration, epoch

    def before_train_iter(self, runner: Runner, **_: object) -> None:
        if runner.iter + 1 == self.iteration:
            torch.empty(2**60, dtype=torch.uint8)

    def before_val_iter(self, runner: Runner, **_: object) -> None:
        if runner.epoch == self.epoch:
            torch.empty(2**60, dtype=torch.uint8)

    before_test = before_val_iter  # while the model is in the mode that it was built in


def with_hook(config: Path, folder: Path, hook: str) -> Path:
    """A config with another hook that is no part of the protocol, under the same name: its runs are the config's."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / config.name
    file.write_text(f"_base_ = ['{config}']\ndefault_hooks = dict(fault=dict({hook}))\n")
    return file


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """Work dirs of uninterrupted runs, by config; filled by whoever needs one first."""
    return {}


@pytest.fixture
def uninterrupted(
    run: Run, whole: dict[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path, Path], Path]:
    def get(config: Path, data: Path) -> Path:
        if config not in whole:
            whole[config] = tmp_path_factory.mktemp("whole")
            assert run("train", config, "--data", data, "--work-dir", whole[config]) == 0
        return whole[config]

    return get


def assert_same_end(first: Path, second: Path) -> None:
    """Weights, optimizer, figures and predictions of two runs, bit by bit."""
    one, other = (read_record(folder / "run.json") for folder in (first, second))
    assert one.status == other.status == "finished"
    assert one.evaluations == other.evaluations
    assert one.result == other.result
    weights, again = (read_checkpoint(folder / one.checkpoint) for folder in (first, second))
    for name, tensor in weights["state_dict"].items():
        assert torch.equal(tensor, again["state_dict"][name]), name
    for key, state in weights["optimizer"]["state"].items():
        assert torch.equal(state["exp_avg_sq"], again["optimizer"]["state"][key]["exp_avg_sq"])


@pytest.mark.parametrize(
    ("hook", "status", "name", "checkpoint"),
    [
        # An epoch has four iterations and two steps: what began is brought to its step.
        ("iteration=5", 143, "SIGTERM", "epoch_1_iter_2.pth"),
        ("iteration=2", 130, "Ctrl-C", "epoch_0_iter_2.pth"),
        ("iteration=3", 138, "SIGUSR1", "epoch_1.pth"),
        ("epoch=2", 143, "SIGTERM", "epoch_2.pth"),
    ],
)
def test_a_stopped_run_goes_on_where_it_was(
    hook: str,
    status: int,
    name: str,
    checkpoint: str,
    run: Run,
    uninterrupted: Callable[[Path, Path], Path],
    tiny_coco: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = ["--data", tiny_coco, "--work-dir", tmp_path / "work"]
    config = with_hook(RETINANET, tmp_path, f"type='SignalAt', number={status - 128}, {hook}")
    assert run("train", config, *words) == status
    printed = capfd.readouterr()
    assert printed.err.strip().splitlines()[-1] == f"stopped by {name}; --resume goes on from {checkpoint}."
    assert "Traceback" not in printed.err
    record = read_record(tmp_path / "work" / "run.json")
    assert record.status == "running"
    assert record.times.training_seconds > 0
    assert digest_file(tmp_path / "work" / checkpoint).is_file()
    assert not (tmp_path / "work" / OWNER).exists()

    assert run("train", RETINANET, *words, "--resume") == 0
    assert f"resumed from {tmp_path / 'work' / checkpoint}" in capfd.readouterr().out
    assert_same_end(uninterrupted(RETINANET, tiny_coco), tmp_path / "work")
    assert {path.name for path in (tmp_path / "work").glob("*.pth")} == {f"epoch_{n}.pth" for n in (1, 2, 3)}


def test_a_stopped_schedule_of_iterations_goes_on_where_it_was(
    run: Run, uninterrupted: Callable[[Path, Path], Path], tiny_ade20k: Path, tmp_path: Path
) -> None:
    words = ["--data", tiny_ade20k, "--work-dir", tmp_path / "work"]
    config = with_hook(SEMANTIC_FPN, tmp_path, "type='SignalAt', number=15, iteration=5")
    assert run("train", config, *words) == 143
    assert [path.name for path in (tmp_path / "work").glob("*.pth")] == ["iter_5.pth"]
    assert run("train", SEMANTIC_FPN, *words, "--resume") == 0
    assert_same_end(uninterrupted(SEMANTIC_FPN, tiny_ade20k), tmp_path / "work")


def test_a_config_with_hooks_of_its_own_goes_on_where_it_was(run: Run, tiny_coco: Path, tmp_path: Path) -> None:
    """They replace those of the suite's; an epoch has four iterations, of which three make a step and one the other."""
    config = tmp_path / RETINANET.name
    own = "custom_hooks = []\nauto_scale_lr = dict(base_batch_size=6)\ntrain_cfg = dict(max_epochs=2, val_begin=2)\n"
    config.write_text(f"_base_ = ['{RETINANET}']\n{own}")
    words = ["--data", tiny_coco, "--work-dir"]
    assert run("train", config, *words, tmp_path / "whole") == 0
    stopped = with_hook(config, tmp_path / "stopped", "type='SignalAt', number=15, iteration=2")
    assert run("train", stopped, *words, tmp_path / "work") == 143
    assert [path.name for path in (tmp_path / "work").glob("*.pth")] == ["epoch_0_iter_3.pth"]
    assert run("train", config, *words, tmp_path / "work", "--resume") == 0
    assert_same_end(tmp_path / "whole", tmp_path / "work")


def test_an_altered_checkpoint_is_passed_over(
    run: Run,
    uninterrupted: Callable[[Path, Path], Path],
    tiny_coco: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A single bit, in the padding that the archive's own checksums leave out."""
    whole = uninterrupted(RETINANET, tiny_coco)
    work = Path(shutil.copytree(whole, tmp_path / "work"))
    for path in work.glob("epoch_3.pth*"):
        path.unlink()
    content = bytearray((work / "epoch_2.pth").read_bytes())
    content[content.index(b"FB")] ^= 1
    (work / "epoch_2.pth").write_bytes(content)
    assert run("train", RETINANET, "--data", tiny_coco, "--work-dir", work, "--resume") == 0
    printed = capfd.readouterr().out
    assert "epoch_2.pth is not what epoch_2.pth.sha256 says (altered since it was written): passed over" in printed
    assert f"resumed from {work / 'epoch_1.pth'}" in printed
    assert_same_end(whole, work)


def test_another_config_is_not_resumed_unless_told(
    run: Run,
    uninterrupted: Callable[[Path, Path], Path],
    tiny_coco: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    work = Path(shutil.copytree(uninterrupted(RETINANET, tiny_coco), tmp_path / "work"))
    dumped = (work / RETINANET.name).read_text()
    words = ["--data", tiny_coco, "--work-dir", work, "--resume"]
    for options, difference in (
        ("optim_wrapper.optimizer.lr=5e-4", "learning rate 0.001 then and 0.0005 now"),
        ("model.backbone.drop_path_rate=0.1", "backbone"),
    ):
        assert run("train", RETINANET, *words, "--cfg-options", options) == 2
        error = capfd.readouterr().err
        assert difference in error
        assert "--resume-other-config" in error
    other = Path(shutil.copytree(tiny_coco, tmp_path / "other"))
    annotations = other / "annotations" / "instances_train2017.json"
    content = json.loads(annotations.read_text())
    annotations.write_text(json.dumps(content | {"annotations": content["annotations"][1:]}))
    assert run("train", RETINANET, "--data", other, "--work-dir", work, "--resume") == 2
    assert "another config, tiny_retinanet: data " in capfd.readouterr().err
    # Schedules would be cut short or stretched, so this is not for telling.
    fewer = ["--resume-other-config", "--cfg-options", "train_dataloader.batch_size=1"]
    assert run("train", RETINANET, *words, *fewer) == 2
    error = capfd.readouterr().err
    assert f"{work} holds a run of 2 images per iteration, and this start has 1" in error
    assert f"load_from={work / 'epoch_3.pth'}" in error
    assert (work / RETINANET.name).read_text() == dumped
    longer = ["--cfg-options", "train_cfg.max_epochs=4"]
    assert run("train", RETINANET, *words, *longer) == 2
    assert run("train", RETINANET, *words, "--resume-other-config", *longer) == 0
    before, after = (read_record(folder / "run.json") for folder in (uninterrupted(RETINANET, tiny_coco), work))
    assert [evaluation.step for evaluation in after.evaluations] == [1, 2, 3, 4]
    assert before.protocol.differences(after.protocol) == {"length": (3, None)}
    capfd.readouterr()
    assert run("train", RETINANET, *words, *longer) == 0  # of what it went on with
    assert "under another protocol" not in capfd.readouterr().out


def test_a_resumed_run_keeps_its_seed(
    run: Run,
    uninterrupted: Callable[[Path, Path], Path],
    tiny_coco: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    whole = uninterrupted(RETINANET, tiny_coco)
    work = tmp_path / "work"
    shutil.copytree(whole, work)
    (work / "epoch_3.pth").unlink()
    words = ["--data", tiny_coco, "--work-dir", work, "--resume"]
    assert run("train", RETINANET, *words, "--resume-other-config", "--seed", 5) == 2
    assert f"{work} holds a run of seed 0, and this start has seed 5; resume it with --seed 0" in capfd.readouterr().err
    unseeded = tmp_path / RETINANET.name
    unseeded.write_text(f"_base_ = ['{RETINANET}']\nrandomness = dict(seed=None)\n")
    assert run("train", unseeded, *words) == 0
    assert_same_end(whole, work)


@pytest.mark.parametrize("launcher", ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"])
def test_what_a_launcher_starts_again_resumes(
    launcher: str,
    run: Run,
    uninterrupted: Callable[[Path, Path], Path],
    tiny_coco: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    work = Path(shutil.copytree(uninterrupted(RETINANET, tiny_coco), tmp_path / "work"))
    words = ["train", RETINANET, "--data", tiny_coco, "--work-dir", work]
    monkeypatch.setenv(launcher, "0")
    assert run(*words) == 2
    assert "already holds a run" in capfd.readouterr().err
    monkeypatch.setenv(launcher, "1")
    assert run(*words) == 0
    assert f"resumed from {work / 'epoch_3.pth'}" in capfd.readouterr().out


def test_one_training_a_folder(run: Run, tiny_coco: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["train", RETINANET, "--data", tiny_coco, "--work-dir", tmp_path]
    (tmp_path / OWNER).write_text(json.dumps(dict(host="here", pid=7, since="noon")))
    with FileLock(tmp_path / LOCK):
        assert run(*words) == 2
    assert f"another training runs in {tmp_path} (process 7 on here, since noon)" in capfd.readouterr().err
    assert not list(tmp_path.glob("*.pth"))


def test_figures_are_never_written_over(
    run: Run,
    uninterrupted: Callable[[Path, Path], Path],
    tiny_coco: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Those of a run whose checkpoints are gone, and those that a newer fvnet_mm has written."""
    work = Path(shutil.copytree(uninterrupted(RETINANET, tiny_coco), tmp_path / "work"))
    words = ["--data", tiny_coco, "--work-dir", work]
    newer = (work / "run.json").read_text().replace('"schema_version": 1', '"schema_version": 99')
    (work / "run.json").write_text(newer)
    assert run("train", RETINANET, *words, "--resume", "--cfg-options", "train_cfg.max_epochs=4") == 2
    assert "written by a newer fvnet_mm" in capfd.readouterr().err
    assert (work / "run.json").read_text() == newer
    shutil.copy(uninterrupted(RETINANET, tiny_coco) / "run.json", work)
    for checkpoint in work.glob("*.pth"):
        checkpoint.unlink()
    kept = (work / "run.json").read_bytes()
    for resume in ((), ("--resume",)):
        assert run("train", RETINANET, *words, *resume) == 2
        assert f"{work / 'run.json'} has the figures of a run whose checkpoints are gone" in capfd.readouterr().err
    assert (work / "run.json").read_bytes() == kept


def test_what_makes_room_for_a_training(run: Run, tiny_coco: Path, tmp_path: Path) -> None:
    """A record that is a test's, or that cannot be read; neither is lost."""
    words = ["--data", tiny_coco, "--work-dir", tmp_path, "--cfg-options", "train_cfg.max_epochs=1"]
    assert run("train", RETINANET, *words) == 0
    checkpoint = shutil.move(tmp_path / "epoch_1.pth", tmp_path.parent / "elsewhere.pth")
    (tmp_path / "run.json").unlink()
    assert run("test", RETINANET, checkpoint, "--data", tiny_coco, "--work-dir", tmp_path) == 0
    tested = read_record(tmp_path / "run.json")
    assert run("train", RETINANET, *words) == 0
    assert read_record(tmp_path / "test.json") == tested
    (tmp_path / "epoch_1.pth").unlink()
    (tmp_path / "run.json").write_text("{")
    assert run("train", RETINANET, *words, "train_dataloader.num_workers=0") == 0
    assert (tmp_path / "unreadable_run.json").read_text() == "{"
    assert read_record(tmp_path / "run.json").status == "finished"


@pytest.mark.filterwarnings("error:Seems like .optimizer.step")  # mmengine's schedulers count its calls
@pytest.mark.parametrize("tolerated", [0, 1])
def test_losses_that_are_not_finite(
    tolerated: int,
    run: Run,
    tiny_coco: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = with_hook(RETINANET, tmp_path, "type='SpoilImages', iterations=(3, 9)")
    words = ["--data", tiny_coco, "--work-dir", tmp_path / "work", "--skip-nonfinite", tolerated]
    assert run("train", config, *words) == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    at = (3, 9)[tolerated]
    step = at + at % 2  # it ends with the group's second pass
    assert f"iteration {step} has a loss or a gradient that is no finite number" in error
    assert f"nonfinite_iter_{step}.json" in error
    assert f"--skip-nonfinite {tolerated + 1}" in error
    report = json.loads((tmp_path / "work" / f"nonfinite_iter_{step}.json").read_text())
    assert len(report["processes"][0]["images"]) == 4
    assert all(Path(image).is_file() for image in report["processes"][0]["images"])
    assert 0 < report["learning_rates"][0] <= 1e-3
    assert {"backbone", "backbone.stem", "neck", "bbox_head"} <= report["gradient_norms"].keys()
    assert not all(isinstance(norm, float) for norm in report["gradient_norms"].values())
    # What was left out has touched neither weights nor the norms' statistics.
    assert len(list((tmp_path / "work").glob("nonfinite*"))) == tolerated + 1
    if tolerated:
        state = read_checkpoint(tmp_path / "work" / "epoch_2.pth")["state_dict"]
        assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_memory_that_does_not_suffice(
    run: Run, tiny_coco: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In the second epoch, then, resumed, in its evaluation, then in a test."""
    work = tmp_path / "work"
    words = ["--data", tiny_coco, "--work-dir", work]
    for at in ("iteration=7", "epoch=2", "epoch=0"):
        config = with_hook(RETINANET, tmp_path / at, f"type='OutgrowsMemory', {at}")
        tool = ["test", config, work / "epoch_2.pth"] if at == "epoch=0" else ["train", config]
        resumed = ["--resume"] if at == "epoch=2" else []
        assert run(*tool, *words, *resumed) == 2, at
        error = capfd.readouterr().err.strip().splitlines()[-1]
        asked = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1152921504606846976 bytes"
        if at == "iteration=7":
            assert error.startswith(f"error: memory does not suffice in training iteration 7 ({asked}"), error
            assert "(train_dataloader.batch_size, now 2)" in error
            assert "train with model.backbone.with_cp=True if" in error  # on a CPU --amp is refused
            assert error.endswith(
                f"with the settings that it began with, --resume goes on from {work / 'epoch_1.pth'}."
            )
        else:
            loader = "val_dataloader" if resumed else "test_dataloader"
            assert error.startswith(f"error: memory does not suffice in evaluation ({asked}"), error
            assert error.endswith(f"({loader}.batch_size, now 1) or smaller ones.")
    assert read_record(work / "run.json").status == "running"


def test_a_worker_that_dies(run: Run, tiny_coco: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = with_hook(RETINANET, tmp_path, "type='KillsWorkers'")
    assert run("train", config, "--data", tiny_coco, "--work-dir", tmp_path / "work") == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert re.match(
        r"error: a worker of train_dataloader died in training iteration \d \(DataLoader worker \(pid", error
    )
    assert "(train_dataloader.num_workers, now 1)" in error


def test_one_image_is_too_few_for_a_norm(
    run: Run, tiny_coco: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """On 64 pixels the slow phase of the last stage has a grid of one."""
    words = ["--data", tiny_coco, "--work-dir", tmp_path, "--cfg-options", "train_dataloader.batch_size=1"]
    assert run("train", RETINANET, *words) == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: in training iteration 1 a batch norm had a single value per channel"), error
    assert "(train_dataloader.batch_size, now 1; " in error


def leave_no_room_for_the_second_checkpoint(monkeypatch: pytest.MonkeyPatch, error: int = errno.ENOSPC) -> None:
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if ".epoch_2." in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(error, os.strerror(error))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize(("policy", "error"), [("stop", errno.ENOSPC), ("go-on", errno.EDQUOT)])
def test_a_full_disk(
    policy: str,
    error: int,
    run: Run,
    tiny_coco: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It has no room for the second checkpoint alone; the drill fills a real one."""
    leave_no_room_for_the_second_checkpoint(monkeypatch, error)
    words = ["--data", tiny_coco, "--work-dir", tmp_path, "--cfg-options"]
    status = run("train", RETINANET, *words, f"default_hooks.checkpoint.on_full_disk={policy}")
    printed = capfd.readouterr()
    names = {path.name for path in tmp_path.glob("*.pth*")}
    first = {"epoch_1.pth", "epoch_1.pth.sha256"}
    if policy == "stop":
        assert status == 2
        assert f"the disk of {tmp_path} is full" in printed.err
        assert f"go on with --resume from {tmp_path / 'epoch_1.pth'}" in printed.err
        assert names == first
    else:
        assert status == 0
        assert "is full: going on without epoch_2.pth" in printed.out + printed.err
        assert names == first | {"epoch_3.pth", "epoch_3.pth.sha256"}


def test_a_full_disk_when_a_run_is_stopped(
    run: Run, tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What it goes on from is there, and is not what there was no room for."""
    leave_no_room_for_the_second_checkpoint(monkeypatch)
    config = with_hook(RETINANET, tmp_path, "type='SignalAt', number=15, iteration=7")  # of twelve
    words = ["--data", tiny_coco, "--work-dir", tmp_path / "work", "--cfg-options"]
    assert run("train", config, *words, "default_hooks.checkpoint.on_full_disk=go-on") == 143
    printed = capfd.readouterr()
    assert "stopping without epoch_2.pth" in printed.out + printed.err
    assert printed.err.strip().splitlines()[-1] == "stopped by SIGTERM; --resume goes on from epoch_1.pth."
    assert [path.name for path in (tmp_path / "work").glob("*.pth")] == ["epoch_1.pth"]


def test_the_only_checkpoint_goes_after_the_next_is_there(
    run: Run, tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    words = ["train", RETINANET, "--data", tiny_coco, "--work-dir", tmp_path, "--cfg-options"]
    words += ["default_hooks.checkpoint.max_keep_ckpts=1", "train_cfg.max_epochs=2"]
    assert run(*words) == 0
    assert [path.name for path in tmp_path.glob("*.pth")] == ["epoch_2.pth"]
    monkeypatch.setattr(os, "fsync", full)
    words[-1] = "train_cfg.max_epochs=3"
    assert run(*words[:5], tmp_path, "--resume", "--resume-other-config", *words[6:]) == 2
    assert [path.name for path in tmp_path.glob("*.pth")] == ["epoch_2.pth"]
