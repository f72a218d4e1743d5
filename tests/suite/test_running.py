"""Jobs that fail, are killed, go on, and go to Slurm; a stand-in trains, so that it takes seconds."""

import argparse
import contextlib
import errno
import io
import os
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fvnet_mm.errors import UserError
from fvnet_mm.places import ROOT
from fvnet_mm.suite import commands, running
from fvnet_mm.suite.jobs import Job
from fvnet_mm.suite.reading import Suite
from fvnet_mm.suite.state import (
    QUEUE_FILE,
    Attempt,
    JobFile,
    JobState,
    State,
    held,
    is_held,
    read_job_file,
    write_job_file,
)
from fvnet_mm.suite.training import Training

SUITE = """
backbones: [fvnet_t, fvnet_s]
frameworks: [retinanet, upernet]
data: [demo]
cfg_options: [steps=4]
overrides:
  - {match: {backbones: [fvnet_s], frameworks: [retinanet]}, cfg_options: [fails_at=2]}
"""
OK, BAD = ["retinanet_fvnet_t", "upernet_fvnet_t", "upernet_fvnet_s"], "retinanet_fvnet_s"

DRIVER = """
import runpy, signal, sys
from functools import partial
from pathlib import Path

from fvnet_mm.suite import running

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
running.Training = partial(running.Training, tool=Path(sys.argv.pop(2)))
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


@pytest.fixture(autouse=True)
def _stand_in(trainer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "Training", partial(Training, tool=trainer))


@pytest.fixture
def driver(tmp_path: Path, trainer: Path) -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """Starts a driver as a process of its own; what it says of mistakes goes to ``console``."""
    started = []

    def start(jobs: int) -> subprocess.Popen[bytes]:
        words = [ROOT / "tools" / "suite.py", trainer, "run", tmp_path / "suite.yaml", "--work-dir", tmp_path / "work"]
        words = [sys.executable, "-c", DRIVER, *map(str, words), "--jobs", str(jobs), "--gpus", "0"]
        with (tmp_path / "console").open("ab") as console:
            started.append(subprocess.Popen(words, start_new_session=True, stderr=console))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def execute(suite: Suite, command: str = "run", jobs: int = 4, **more: object) -> bool:
    arguments = dict(command=command, suite=Path("s.yaml"), work_dir=None, filter="", jobs=jobs, gpus=0, threads=3)
    arguments |= dict(cluster=None, time=None, partition=None, sbatch=[], jobs_per_gpu=None) | more
    return commands.execute(suite, suite.jobs, argparse.Namespace(**arguments))


def named(suite: Suite, start: str) -> Job:
    (job,) = (job for job in suite.jobs if job.name.startswith(f"{start}_"))
    return job


def steps(job: Job) -> list[list[str]]:
    """What the stand-in noted: step, time, whether it was resumed, threads."""
    file = job.work_dir / "steps"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def wait_for(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_one_failure_stops_no_other_and_is_retried(
    read: Callable[[str], Suite], capsys: pytest.CaptureFixture[str]
) -> None:
    suite = read(SUITE)
    assert not execute(suite)
    out = capsys.readouterr().out
    states = running.states_of(suite.jobs)
    assert {job.name for job in suite.jobs if states[job.name].state is State.FINISHED} == {
        named(suite, start).name for start in OK
    }
    failed = named(suite, BAD)
    assert (states[failed.name].state, states[failed.name].note) == (State.FAILED, "no such luck")
    assert f"failed      {failed.name}: no such luck ({failed.work_dir / 'job.log'})" in out
    assert "4 jobs: 3 finished, 1 failed" in out
    assert "retry       python tools/suite.py retry s.yaml --threads 3 --jobs 4 --gpus 0\n" in out
    assert out.splitlines()[-1] == f"next        python tools/leaderboard.py {suite.work_dir}"
    assert {line[3] for line in steps(named(suite, OK[0]))} == {"3"}
    assert set(read_job_file(failed.work_dir).digests) == {"config"}

    assert not execute(suite)  # takes the failed one no more
    assert "nothing to run" in capsys.readouterr().out
    assert not execute(suite, "resume")
    assert len(read_job_file(failed.work_dir).attempts) == 1
    assert not execute(suite, "retry")  # and fails again, from where it was
    assert [line[:1] + line[2:3] for line in steps(failed)[-1:]] == [["2", "True"]]
    assert len(read_job_file(failed.work_dir).attempts) == 2


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--threads", "2", "--jobs", "3", "--gpus", "0"],
        ["--gpus", "1", "--jobs-per-gpu", "2"],
        ["--work-dir", "a b", "--filter", "upernet", "--cluster", "slurm", "--partition", "long", "--time", "60"],
        ["--cluster", "slurm", "--sbatch", "mem=32GB", "cpus-per-task=8"],
    ],
)
@pytest.mark.parametrize("command", ["run", "resume", "retry"])
def test_a_suggested_command_has_the_flags_that_were_given(words: list[str], command: str) -> None:
    parser = runpy.run_path(str(ROOT / "tools" / "suite.py"))["suite_parser"]()
    given = parser.parse_args([command, "s.yaml", *words])
    again = commands._again(given, "retry")
    assert again == shlex.join(["python", "tools/suite.py", "retry", "s.yaml", *words])
    assert vars(parser.parse_args(shlex.split(again)[2:])) == vars(given) | dict(command="retry")
    watched = parser.parse_args(shlex.split(commands._again(given, "status"))[2:])
    assert (watched.command, watched.work_dir, watched.filter) == ("status", given.work_dir, given.filter)


@pytest.mark.parametrize(("command", "then"), [("run", "run"), ("resume", "resume"), ("retry", "resume")])
def test_what_was_interrupted_goes_on_by_a_command_that_takes_it(
    read: Callable[[str], Suite],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    then: str,
) -> None:
    suite = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo}]")
    (job,) = suite.jobs
    now = datetime.now(timezone.utc)
    attempt = Attempt(started=now, ended=now, exit_status=1, stopped=command == "resume")
    write_job_file(JobFile(definition=job.definition(), attempts=(attempt,) * (command != "run")), job.work_dir)
    monkeypatch.setattr(commands, "run_locally", lambda *given: given[-1]())
    execute(suite, command)
    assert f"to go on: python tools/suite.py {then} s.yaml" in capsys.readouterr().err
    assert State.INTERRUPTED in commands.TAKES[then]


def test_no_more_at_once_than_asked(read: Callable[[str], Suite]) -> None:
    suite = read(SUITE)
    execute(suite, jobs=1)
    spans = sorted((float(lines[0][1]), float(lines[-1][1])) for lines in map(steps, suite.jobs))
    assert all(end < begin for (_, end), (begin, _) in pairwise(spans))


def test_killed_driver_leaves_its_jobs_to_the_next(
    read: Callable[[str], Suite], driver: Callable[[int], subprocess.Popen[bytes]]
) -> None:
    suite = read(SUITE.replace("steps=4", "steps=20"))
    first = driver(2)
    wait_for(lambda: sum(bool(steps(job)) for job in suite.jobs) == 2)
    begun = [job for job in suite.jobs if steps(job)]
    first.kill()
    first.wait()
    time.sleep(0.5)
    assert all(is_held(job.work_dir) for job in begun if not job.name.startswith(BAD))
    assert driver(2).wait(timeout=600) == 1  # for the one that failed
    states = running.states_of(suite.jobs)
    assert sorted(found.state.value for found in states.values()) == ["failed", "finished", "finished", "finished"]
    for job in begun:
        assert len(read_job_file(job.work_dir).attempts) == 1  # it was awaited, not started again


def test_jobs_that_were_killed_with_their_driver_go_on(
    read: Callable[[str], Suite], driver: Callable[[int], subprocess.Popen[bytes]]
) -> None:
    suite = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo, cfg_options: [steps=12]}]")
    (job,) = suite.jobs
    first = driver(1)
    wait_for(lambda: len(steps(job)) > 4)
    os.killpg(first.pid, signal.SIGKILL)  # the driver and submitit's processes, but not the training
    training = next(
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and str(job.work_dir).encode() in (entry / "cmdline").read_bytes()
    )
    os.kill(training, signal.SIGKILL)
    first.wait()
    wait_for(lambda: not is_held(job.work_dir))
    assert running.states_of(suite.jobs)[job.name].state is State.INTERRUPTED
    before = len(steps(job))
    assert execute(suite, "resume")
    assert steps(job)[before][2] == "True"
    assert int(steps(job)[before][0]) >= before - 1 > 0
    first_attempt, second = read_job_file(job.work_dir).attempts
    assert (first_attempt.ended, second.exit_status) == (None, 0)


def test_two_drivers_both_wait_for_the_end(
    read: Callable[[str], Suite],
    trainer: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    suite = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo}]")
    (job,) = suite.jobs

    class Executor(running.submitit.LocalExecutor):
        """Its process finds the lock held, and ends at once."""

        def submit(self, training: Training) -> SimpleNamespace:
            threading.Thread(target=Training(job, tool=trainer)).start()  # the other driver's
            wait_for(lambda: is_held(job.work_dir) and read_job_file(job.work_dir) is not None)
            return SimpleNamespace(done=lambda: True)

    monkeypatch.setattr(running.submitit, "LocalExecutor", Executor)
    assert execute(suite)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:3]] == ["started", "finished"]


def test_what_another_driver_has_begun_or_ended_is_not_started_again(
    read: Callable[[str], Suite], trainer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo, seeds: [0, 1, 2]}]")
    _, *others = suite.jobs

    def report(job: Job, found: JobState) -> None:
        print(job.seed, found.state.value)
        if (job.seed, found.state) == (0, State.RUNNING):  # the first of ours: now the other driver takes the rest
            Training(others[0], tool=trainer)()
            threading.Thread(target=Training(others[1], tool=trainer)).start()
            wait_for(lambda: is_held(others[1].work_dir) and read_job_file(others[1].work_dir) is not None)

    running.run_locally(suite, suite.jobs, running.Resources(1), report)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["0 running", "0 finished", "1 finished", "2 finished"]
    assert all(len(read_job_file(job.work_dir).attempts) == 1 for job in suite.jobs)


def test_a_job_that_cannot_start_is_said_and_counts(
    read: Callable[[str], Suite], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo}]")
    (job,) = suite.jobs
    job.work_dir.parent.mkdir()
    job.work_dir.symlink_to(tmp_path / "not mounted")
    assert not execute(suite)
    assert f"not started {job.name}: see {job.work_dir.parent / 'submitit'}" in capsys.readouterr().out


def test_a_job_that_cannot_be_submitted_stops_no_other(
    read: Callable[[str], Suite], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo, seeds: [0, 1, 2]}]")
    first, second, third = suite.jobs
    submit = running.submitit.LocalExecutor.submit

    def full_for_one(self: object, training: Training) -> object:
        if training.job == second:
            wait_for(lambda: bool(steps(first)))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return submit(self, training)

    monkeypatch.setattr(running.submitit.LocalExecutor, "submit", full_for_one)
    assert not execute(suite, jobs=2)
    captured = capsys.readouterr()
    place = suite.work_dir / "submitit"
    assert f"not started {second.name}: No space left on device ({place})" in captured.out
    assert "3 jobs: 2 finished, 1 waiting" in captured.out
    assert "Traceback" not in captured.err
    for job in (first, third):
        (attempt,) = read_job_file(job.work_dir).attempts
        assert attempt.exit_status == 0
    monkeypatch.setattr(running.submitit.LocalExecutor, "submit", submit)
    assert execute(suite)


def test_a_work_dir_that_cannot_be_read_is_a_state(
    read: Callable[[str], Suite], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo, seeds: [0, 1]}]")
    closed, other = suite.jobs
    real = os.stat, io.open

    def refusing(call: Callable[..., object]) -> Callable[..., object]:
        def refuse(path: object, *more: object, **named: object) -> object:
            if str(path).startswith(str(closed.work_dir)):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return call(path, *more, **named)

        return refuse

    closed.work_dir.mkdir(parents=True)
    monkeypatch.setattr(os, "stat", refusing(real[0]))  # which the modes of a folder do not do to root
    monkeypatch.setattr(io, "open", refusing(real[1]))
    states = running.states_of(suite.jobs)
    assert (states[closed.name].state, states[other.name].state) == (State.OTHER, State.WAITING)
    assert "job.json cannot be read: Permission denied" in states[closed.name].note


SLOW = """
import signal, sys, time
from pathlib import Path

work_dir = Path(sys.argv[sys.argv.index("--work-dir") + 1])

def save(number, frame):
    with (work_dir / "terms").open("a") as terms:
        print(number, file=terms)
    time.sleep(1.5)
    (work_dir / "epoch_1.pth").touch()
    sys.exit(1)

signal.signal(signal.SIGTERM, save)
print(signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getsignal(signal.SIGINT).__name__, flush=True)
time.sleep(600)
"""
"""Takes longer for its last checkpoint than submitit gives to what it cancels."""


def test_ctrl_c_waits_for_the_last_checkpoint(
    read: Callable[[str], Suite], driver: Callable[[int], subprocess.Popen[bytes]], tmp_path: Path, trainer: Path
) -> None:
    suite = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo, seeds: [0, 1]}]")
    trainer.write_text(SLOW)
    first = suite.jobs[0]
    started = driver(1)
    log = first.work_dir / "job.log"
    wait_for(lambda: log.exists() and log.read_bytes().endswith(b"\n"))
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to the driver and submitit's processes
    assert started.wait(timeout=60) == 130
    assert not is_held(first.work_dir)
    (attempt,) = read_job_file(first.work_dir).attempts
    assert (attempt.exit_status, attempt.stopped, attempt.ended is not None) == (1, True, True)
    assert (first.work_dir / "epoch_1.pth").exists()
    assert (first.work_dir / "terms").read_text() == f"{signal.SIGTERM:d}\n"
    assert log.read_text() == "set() default_int_handler\n"  # submitit's mask is not the training's
    assert [running.states_of(suite.jobs)[job.name].state for job in suite.jobs] == [State.INTERRUPTED, State.WAITING]
    console = (tmp_path / "console").read_text()
    assert "the jobs that run are being ended" in console
    assert f"to go on: python tools/suite.py run {tmp_path / 'suite.yaml'} --work-dir {tmp_path / 'work'}" in console
    assert "--jobs 1 --gpus 0\n" in console
    assert "Traceback" not in console


def test_another_run_in_a_work_dir_is_named_and_left(
    read: Callable[[str], Suite], capsys: pytest.CaptureFixture[str]
) -> None:
    suite = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo}]")
    (job,) = suite.jobs
    job.work_dir.mkdir(parents=True)
    (job.work_dir / "iter_9.pth").touch()
    assert not execute(suite)
    assert "problem: " in capsys.readouterr().err
    assert not steps(job)


def test_preemption_stops_the_training_and_goes_on(read: Callable[[str], Suite], trainer: Path) -> None:
    (job,) = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo, cfg_options: [steps=500]}]").jobs
    training = Training(job, tool=trainer)

    def preempt(number: int, frame: object) -> None:
        again.append(training.checkpoint())
        sys.exit(-1)

    def wait_and_signal() -> None:
        wait_for(lambda: bool(steps(job)))
        os.kill(os.getpid(), signal.SIGALRM)

    again: list = []
    earlier = signal.signal(signal.SIGALRM, preempt)
    try:
        threading.Thread(target=wait_and_signal, daemon=True).start()
        with pytest.raises(SystemExit):
            training()
    finally:
        signal.signal(signal.SIGALRM, earlier)
    assert read_job_file(job.work_dir).attempts[0].exit_status == -signal.SIGTERM
    assert not is_held(job.work_dir)
    repeated = again[0].function
    assert (repeated.job, repeated.tool, repeated._process) == (job, trainer, None)
    assert "--resume" in repeated.command(resume=True)


@pytest.mark.parametrize(
    "handler",
    [
        "lambda *_: sys.exit(1)",  # as torchrun does
        "signal.SIG_IGN",  # and is killed in the end
    ],
)
def test_what_is_stopped_has_not_failed(
    read: Callable[[str], Suite], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handler: str
) -> None:
    (job,) = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo}]").jobs
    tool = tmp_path / "deaf.py"
    tool.write_text(f"import signal, sys, time\nsignal.signal(15, {handler})\nprint('up', flush=True)\ntime.sleep(600)")
    training = Training(job, tool=tool)
    monkeypatch.setattr("fvnet_mm.suite.training._GRACE", 0.5)
    thread = threading.Thread(target=training)
    thread.start()
    log = job.work_dir / "job.log"
    wait_for(lambda: log.exists() and b"up" in log.read_bytes())
    training._stop()
    thread.join()
    assert running.states_of([job])[job.name].state is State.INTERRUPTED


def test_command_for_several_gpus(read: Callable[[str], Suite]) -> None:
    (job,) = read("runs: [{config: configs/fvnet_s_in1k.py, seeds: [4]}]").jobs
    command = Training(job, gpus=8).command(resume=False)
    assert command[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "8"]
    assert command[8:10] == ["--launcher", "pytorch"]
    environment = Training(job, threads=2, devices=("4", "5"))._environment()
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["OMP_NUM_THREADS"]) == ("4,5", "2")


def test_too_few_gpus_are_said(read: Callable[[str], Suite], monkeypatch: pytest.MonkeyPatch) -> None:
    suite = read(SUITE)
    monkeypatch.setattr(commands, "visible_devices", lambda: ("0", "1", "2"))
    monkeypatch.setattr(commands, "usable_cores", lambda: 16)
    with pytest.raises(UserError, match="this machine shows 3 GPUs"):
        execute(suite, gpus=4)
    with pytest.raises(UserError, match="3 GPUs are enough for 1 jobs of 2"):
        execute(suite, gpus=2, jobs=2)
    resources = commands._resources(argparse.Namespace(gpus=None, jobs=None, threads=None, jobs_per_gpu=1))
    assert (resources.jobs, resources.gpus, resources.devices) == (3, 1, ("0", "1", "2"))
    assert shares(resources) == [("0",), ("1",), ("2",)]
    shared = commands._resources(argparse.Namespace(gpus=2, jobs=None, threads=1, jobs_per_gpu=3))
    assert shared.jobs == 3
    assert shares(shared) == [("0", "1")] * 3
    pair = commands._resources(argparse.Namespace(gpus=2, jobs=None, threads=None, jobs_per_gpu=1))
    assert (pair.jobs, pair.threads) == (1, 8)  # of each of two processes


def test_gpus_keep_the_numbers_that_the_environment_gives_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert running.visible_devices() == ("4", "5")


def shares(resources: running.Resources, left: dict[Job, tuple[str, ...]] | None = None) -> list[tuple[str, ...]]:
    """The GPUs that as many jobs get as can run at once."""
    devices = running._Devices(resources, left or {}, threading.Event())
    found = []
    while len(share := devices._share()) == resources.gpus:
        found.append(devices.take())
        assert found[-1] == share
    return found


@pytest.mark.parametrize(
    ("earlier", "gpus", "devices", "beside", "after"),
    [
        ((), 1, "0", ["0"], ["0"]),  # on the CPU, or on Slurm
        (("0",), 2, "01", [], ["01"]),
        (("0",), 2, "0123", ["12"], ["01", "23"]),
        (("0", "1"), 1, "01", [], ["0", "1"]),
        (("0", "1"), 1, "0101", ["0", "1"], ["0", "1", "0", "1"]),
        (("7", "1"), 1, "01", ["0"], ["0", "1"]),  # of another CUDA_VISIBLE_DEVICES
    ],
)
def test_a_restart_with_other_gpus(
    read: Callable[[str], Suite],
    earlier: tuple[str, ...],
    gpus: int,
    devices: str,
    beside: list[str],
    after: list[str],
) -> None:
    (job,) = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo}]").jobs
    resources = running.Resources(jobs=4, gpus=gpus, devices=tuple(devices))
    with held(job.work_dir):
        assert shares(resources, {job: earlier}) == list(map(tuple, beside))
    assert shares(resources, {job: earlier}) == list(map(tuple, after))


@pytest.mark.parametrize(("earlier", "gpus", "devices"), [((), 1, "0"), (("0",), 2, "01"), (("0", "1"), 1, "01")])
def test_each_job_after_a_restart_has_as_many_gpus_as_asked(
    read: Callable[[str], Suite], monkeypatch: pytest.MonkeyPatch, earlier: tuple[str, ...], gpus: int, devices: str
) -> None:
    suite = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo, seeds: [0, 1, 2]}]")
    first = suite.jobs[0]
    left = Attempt(started=datetime.now(timezone.utc), devices=earlier)
    write_job_file(JobFile(definition=first.definition(), attempts=(left,)), first.work_dir)
    given: list[tuple[str, ...]] = []

    class Executor(running.submitit.LocalExecutor):
        def submit(self, training: Training) -> SimpleNamespace:
            given.append(training.devices)
            return SimpleNamespace(done=lambda: True)

    monkeypatch.setattr(running.submitit, "LocalExecutor", Executor)
    monkeypatch.setattr(running, "_POLL", 0.01)
    with contextlib.ExitStack() as lock:
        lock.enter_context(held(first.work_dir))
        threading.Timer(0.1, lock.pop_all().close).start()  # it ends, and is to go on
        resources = running.Resources(1, gpus=gpus, devices=tuple(devices))
        running.run_locally(suite, suite.jobs, resources, lambda job, found: None)
    assert given == [tuple(devices[:gpus])] * 3


def test_two_that_share_a_gpu_leave_it_when_both_have_ended(read: Callable[[str], Suite]) -> None:
    first, second = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo, seeds: [0, 1]}]").jobs
    resources = running.Resources(jobs=1, gpus=1, devices=("0",))
    left = {first: ("0",), second: ("0",)}
    with held(second.work_dir):
        assert shares(resources, left) == []
    assert shares(resources, left) == [("0",)]


def test_a_work_dir_that_cannot_be_made_is_said(read: Callable[[str], Suite], tmp_path: Path) -> None:
    suite = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, data: demo}]")
    (tmp_path / "work").symlink_to(tmp_path / "not mounted")
    with pytest.raises(
        UserError, match=rf"the folder {tmp_path / 'work' / 'submitit'} cannot be written: File exists\."
    ):
        execute(suite)


def test_slurm_gets_an_array_once(
    read: Callable[[str], Suite],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    suite = read(SUITE)
    with pytest.raises(UserError, match="there is no Slurm here"):
        execute(suite, cluster="slurm")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (
        ("sbatch", f'cp "$1" {tmp_path}/script; echo x >> {tmp_path}/calls; echo "Submitted batch job 42"'),
        ("srun", ""),
        ("sacct", 'echo "JobID|State|NodeList"; echo "42_0|RUNNING|n"; echo "42_[1-3]|PENDING|n"'),
    ):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with pytest.raises(UserError, match=r"Slurm does not take the jobs: .*nonsense"):
        execute(suite, cluster="slurm", sbatch=["nonsense=1"])
    with pytest.raises(UserError, match="--sbatch takes no job-name: it is the suite's name"):
        execute(suite, cluster="slurm", sbatch=["job-name=mine"])
    with pytest.raises(UserError, match="--sbatch takes no gpus-per-node: it is --gpus"):
        execute(suite, cluster="slurm", sbatch=["gpus-per-node=2"])
    with pytest.raises(UserError, match="Slurm does not take the jobs: "):
        execute(suite, cluster="slurm", sbatch=["setup=7"])  # a list, for submitit
    capsys.readouterr()
    flags = dict(jobs=2, gpus=1, time=60, partition="gpu", sbatch=["mem=32GB", "cpus-per-task=8"])
    assert execute(suite, cluster="slurm", **flags)
    assert "to watch them: python tools/suite.py status s.yaml\n" in capsys.readouterr().out
    script = (tmp_path / "script").read_text()
    for flag in (
        "array=0-3%2",
        "gpus-per-node=1",
        "partition=gpu",
        "mem=32GB",
        "cpus-per-task=8",
        "time=60",
        "signal=",
    ):
        assert f"#SBATCH --{flag}" in script
    assert {found.state for found in running.states_of(suite.jobs).values()} == {State.QUEUED}
    assert execute(suite, cluster="slurm")
    assert "nothing to run" in capsys.readouterr().out
    assert (tmp_path / "calls").read_text() == "x\n"
    (tools / "sacct").write_text('#!/bin/sh\necho "JobID|State"; echo "42_[0-3]|CANCELLED by 0"\n')
    running.SlurmJob.watcher.clear()
    assert {found.state for found in running.states_of(suite.jobs).values()} == {State.WAITING}
    (tools / "sacct").write_text("#!/bin/sh\necho 'JobID|State'\n")  # it may take a while to know a job
    running.SlurmJob.watcher.clear()
    assert {found.state for found in running.states_of(suite.jobs).values()} == {State.QUEUED}
    for job in suite.jobs:
        os.utime(job.work_dir / QUEUE_FILE, (time.time() - 301,) * 2)
    assert {found.state for found in running.states_of(suite.jobs).values()} == {State.WAITING}
