"""What a work dir tells of its job."""

import fcntl
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fvnet_mm.data.ade20k_layout import find_ade20k
from fvnet_mm.data.coco_layout import find_coco
from fvnet_mm.data.fingerprint import fingerprint
from fvnet_mm.data.image_folder import find_image_folder
from fvnet_mm.errors import UserError
from fvnet_mm.suite.jobs import Job
from fvnet_mm.suite.reading import Suite
from fvnet_mm.suite.state import (
    JOB_FILE,
    LOCK_FILE,
    Attempt,
    JobFile,
    JobState,
    State,
    held,
    is_held,
    new_job_file,
    read_job_file,
    state_of,
    write_job_file,
)
from fvnet_mm.suite.trained_data import _fingerprints
from fvnet_mm.suite.training import Training

RECORD = json.loads(
    (Path(__file__).parents[1] / "report/leaderboard/records/retinanet_fvnet_t_seed0/run.json").read_text()
)
NOW = datetime.now(timezone.utc)


@pytest.fixture
def job(read: Callable[[str], Suite]) -> Job:
    (job,) = read("runs: [{config: configs/retinanet_fvnet_t_coco.py, cfg_options: [a=1]}]").jobs
    return job


def attempted(job: Job, *attempts: Attempt, status: str | None = None) -> None:
    write_job_file(JobFile(definition=job.definition(), attempts=attempts), job.work_dir)
    if status is not None:
        (job.work_dir / "run.json").write_text(json.dumps(RECORD | dict(status=status)))


def ended(status: int, reason: str | None = None) -> Attempt:
    return Attempt(started=NOW, ended=NOW, exit_status=status, reason=reason)


def test_before_and_after(job: Job) -> None:
    assert state_of(job).state is State.WAITING
    assert state_of(job, queued=True).state is State.QUEUED
    attempted(job)
    assert state_of(job).state is State.WAITING
    attempted(job, ended(0), status="finished")
    found = state_of(job, queued=True)
    assert (found.state, found.record.result.metrics["AP"]) == (State.FINISHED, 31.2)


@pytest.mark.parametrize(
    ("attempt", "state", "note"),
    [
        (Attempt(started=NOW), State.INTERRUPTED, ""),
        (ended(-signal.SIGTERM), State.INTERRUPTED, ""),
        (ended(-signal.SIGHUP), State.INTERRUPTED, ""),
        (ended(-signal.SIGUSR1), State.INTERRUPTED, ""),
        (ended(128 + signal.SIGINT), State.INTERRUPTED, ""),
        (ended(128 + signal.SIGTERM), State.INTERRUPTED, ""),
        (ended(1, f"torch.x.SignalException: Process 7 got signal: {signal.SIGTERM:d}"), State.INTERRUPTED, ""),
        (
            ended(1, "SignalException: Process 7 got signal: 11"),
            State.FAILED,
            "SignalException: Process 7 got signal: 11",
        ),
        (ended(1, "no luck").model_copy(update=dict(stopped=True)), State.INTERRUPTED, ""),
        (ended(-signal.SIGKILL, "killed"), State.FAILED, "killed"),
        (ended(2, "no data"), State.FAILED, "no data"),
        (ended(0), State.FAILED, "exit status 0"),
    ],
)
@pytest.mark.parametrize("status", [None, "running"])
def test_ends_without_a_finished_record(
    job: Job, attempt: Attempt, state: State, note: str, status: str | None
) -> None:
    attempted(job, ended(1), attempt, status=status)
    found = state_of(job)
    assert (found.state, found.note, len(found.attempts)) == (state, note, 2)
    assert state_of(job, queued=True).state is State.QUEUED


def test_other_runs_are_left_alone(job: Job) -> None:
    job.work_dir.mkdir(parents=True)
    (job.work_dir / "epoch_3.pth").touch()
    assert state_of(job).state is State.OTHER
    assert "no suite has started" in state_of(job).note
    write_job_file(JobFile(definition=job.definition() | dict(cfg_options=["a=2"], amp="bf16")), job.work_dir)
    assert state_of(job).state is State.OTHER
    assert "other settings (cfg_options, amp)" in state_of(job).note
    began = {name: value for name, value in job.definition().items() if name != "cfg_options"}
    write_job_file(JobFile(definition=began), job.work_dir)
    assert "other settings (cfg_options)" in state_of(job).note
    (job.work_dir / JOB_FILE).write_text("{")
    assert state_of(job).state is State.OTHER
    assert "is damaged" in state_of(job).note


@pytest.mark.parametrize("status", [None, "finished"])
def test_a_setting_that_the_suite_makes_no_more_is_another_run(job: Job, status: str | None) -> None:
    attempted(job, ended(0), status=status)
    began = read_job_file(job.work_dir)
    write_job_file(began.model_copy(update=dict(definition=began.definition | dict(pretraining="plain"))), job.work_dir)
    found = state_of(job)
    assert (found.state, "other settings (pretraining)" in found.note) == (State.OTHER, True)
    write_job_file(began.model_copy(update=dict(definition=began.definition | dict(pretraining=None))), job.work_dir)
    assert state_of(job).state is (State.FINISHED if status else State.FAILED)


def test_a_damaged_record_is_no_finished_one(job: Job) -> None:
    attempted(job, ended(0), status="finished")
    (job.work_dir / "run.json").write_text('{"schema_version": 1')
    found = state_of(job)
    assert found.state is State.FAILED
    assert "the file is cut short" in found.note
    attempted(job, ended(2, "no data"))
    assert state_of(job).note == "no data"


def test_a_record_of_a_newer_version_is_left_alone(job: Job) -> None:
    attempted(job, ended(0), status="finished")
    (job.work_dir / "run.json").write_text(json.dumps(RECORD | dict(schema_version=RECORD["schema_version"] + 1)))
    found = state_of(job)
    assert found.state is State.OTHER
    assert "written by a newer fvnet_mm" in found.note
    with pytest.raises(UserError, match="written by a newer fvnet_mm"):
        Training(job)()
    assert len(read_job_file(job.work_dir).attempts) == 1


def test_the_lock_lives_as_long_as_a_process_that_inherited_it(job: Job) -> None:
    attempted(job, Attempt(started=NOW), status="running")
    assert not is_held(job.work_dir)
    with held(job.work_dir) as lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
        assert state_of(job).state is State.RUNNING
        with pytest.raises(UserError, match="another process is training"), held(job.work_dir, patience=0):
            pass
    assert state_of(job).state is State.RUNNING  # the child
    child.communicate(b"\n")
    assert state_of(job).state is State.INTERRUPTED
    with held(job.work_dir, patience=0):
        pass
    assert (job.work_dir / LOCK_FILE).stat().st_size == 0


def test_one_that_only_looks_does_not_train(job: Job) -> None:
    """Several may look at once; each holds the lock for a moment, and none may take another for a training."""
    attempted(job, Attempt(started=NOW), status="running")
    with (job.work_dir / LOCK_FILE).open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not is_held(job.work_dir)
        fcntl.flock(looking, fcntl.LOCK_EX)
        assert is_held(job.work_dir)


def test_a_work_dir_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with (
        pytest.raises(UserError, match=r"the work dir .*taken/run cannot be written: Not a directory"),
        held(tmp_path / "taken" / "run"),
    ):
        pytest.fail("held")


def test_places_do_not_matter(job: Job, tmp_path: Path) -> None:
    attempted(job, ended(0), status="finished")
    file = read_job_file(job.work_dir)
    assert str(tmp_path) not in file.model_dump_json()


def test_other_contents_are_another_run(read: Callable[[str], Suite], tmp_path: Path) -> None:
    config, base, weights, others = (tmp_path / name for name in ("c.py", "b.py", "w.pth", "more/w.pth"))
    others.parent.mkdir()

    def found(file: Path) -> JobState:
        (job,) = read(f"runs: [{{config: {config}, name: r, data: demo, weights: {file}}}]").jobs
        return state_of(job)

    config.write_text('_base_ = ["b.py"]\nlr = 1\n')
    base.write_text("steps = 1\n")
    weights.write_bytes(b"one")
    others.write_bytes(b"one")
    (job,) = read(f"runs: [{{config: {config}, name: r, data: demo, weights: {weights}}}]").jobs
    write_job_file(new_job_file(job).model_copy(update=dict(attempts=(ended(0),))), job.work_dir)
    (job.work_dir / "run.json").write_text(json.dumps(RECORD))
    assert found(weights).state is found(others).state is State.FINISHED
    config.write_text('# Mine.\n_base_ = ["b.py"]\n\nlr = 1  # once\n')
    assert found(weights).state is State.FINISHED
    base.write_text("steps = 10\n")
    assert (found(weights).state, "before the config changed" in found(weights).note) == (State.OTHER, True)
    with held(job.work_dir):
        assert found(weights).state is State.RUNNING
    base.write_text("steps = 1\n")
    assert found(weights).state is State.FINISHED
    (finished,) = read(f"runs: [{{config: {config}, name: r, data: demo, weights: {weights}}}]").jobs
    weights.rename(tmp_path / "moved.pth")
    assert state_of(finished).state is State.FINISHED  # nothing says that they were others
    (tmp_path / "moved.pth").rename(weights)
    others.write_bytes(b"another")
    assert (found(others).state, "before the weights changed" in found(others).note) == (State.OTHER, True)
    config.write_text("lr = (")  # which loading it will say
    assert found(weights).state is State.OTHER


def test_an_edited_backbone_is_another_run(read: Callable[[str], Suite], tmp_path: Path) -> None:
    description, base = tmp_path / "my_net.py", tmp_path / "base.py"
    description.write_text('_base_ = ["base.py"]\n')
    base.write_text("channels = (8, 16, 32, 64)\n")
    (job,) = read(f"runs: [{{config: configs/fvnet_s_in1k.py, name: r, data: demo, backbone: {description}}}]").jobs
    write_job_file(new_job_file(job).model_copy(update=dict(attempts=(ended(0),))), job.work_dir)
    (job.work_dir / "run.json").write_text(json.dumps(RECORD))
    assert state_of(job).state is State.FINISHED
    base.write_text("channels = (8, 16, 32, 128)\n")
    assert state_of(job).state is State.OTHER


@pytest.mark.parametrize(
    ("fixture", "find", "task", "changed"),
    [
        ("tiny_coco", find_coco, "detection", "annotations/instances_train*.json"),
        ("tiny_ade20k", find_ade20k, "semantic_segmentation", "images/training/*1.jpg"),
        ("tiny_classes", find_image_folder, "classification", "train/*/*.jpg"),
    ],
)
def test_data_counts_by_what_is_in_the_folder(
    read: Callable[[str], Suite],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    fixture: str,
    find: Callable[[Path], object],
    task: str,
    changed: str,
) -> None:
    def job_on(folder: Path) -> Job:
        (job,) = read(f"runs: [{{config: configs/retinanet_fvnet_t_coco.py, name: r, data: {folder}}}]").jobs
        return job

    a, b, c, bare = (tmp_path / name / "set" for name in ("a", "b", "c", "bare"))
    for folder in (a, b, c):
        shutil.copytree(request.getfixturevalue(fixture), folder)
    bare.mkdir(parents=True)
    with next(c.glob(changed)).open("ab") as file:
        file.write(b" ")
    found = find(a)
    prints = {split.name: dict(images=1, fingerprint=fingerprint(split)) for split in (found.train, found.val)}
    job = job_on(a)
    trained = RECORD | dict(task=task, command=["python", *job.words()], data=RECORD["data"] | prints)
    for status, state in (("finished", State.FINISHED), ("running", State.INTERRUPTED)):
        attempted(job, ended(-signal.SIGTERM), status=status)
        (job.work_dir / "run.json").write_text(json.dumps(trained | dict(status=status)))
        _fingerprints.cache_clear()
        assert state_of(job).state is state
        assert _fingerprints.cache_info().misses == 0  # asking is free where the data has not moved
        assert [state_of(job_on(b)).state for _ in range(3)] == [state] * 3
        assert _fingerprints.cache_info().misses == 1
        other = state_of(job_on(c))
        assert other.state is State.OTHER
        assert f"holds a run on other data than is in {c} now (train); move it away" in other.note
        assert state_of(job_on(bare)).state is State.OTHER
        assert f"is in {bare} now: {bare}" in state_of(job_on(bare)).note


def test_a_job_file_without_digests_is_read_as_before(job: Job) -> None:
    attempted(job, ended(0), status="finished")
    old = json.loads((job.work_dir / JOB_FILE).read_text())
    del old["digests"]
    for attempt in old["attempts"]:
        del attempt["stopped"]
    (job.work_dir / JOB_FILE).write_text(json.dumps(old))
    assert state_of(job).state is State.FINISHED
