import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fvnet_mm.errors import UserError
from fvnet_mm.report.scalars import Evaluation, read_scalars


def write(path: Path, lines: Sequence[dict]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def train(iteration: int, loss: float, **more: float) -> dict:
    return {
        "lr": 0.1,
        "loss": loss,
        "loss_cls": loss / 2,
        "time": 1.0,
        "iter": iteration,
        "step": iteration,
        **more,
    }


def val(step: int, value: float) -> dict:
    return {"coco/bbox_mAP": value, "data_time": 0.1, "time": 0.2, "step": step}


def test_lines_as_mmengine_writes_them(tmp_path: Path):
    file = write(tmp_path / "a.json", [train(10, 3.0, epoch=1), train(20, 2.0, epoch=1), val(1, 0.25)])
    history = read_scalars([file])
    assert history.series("loss") == ([10, 20], [3.0, 2.0])
    assert history.series("lr") == ([10, 20], [0.1, 0.1])
    assert history.series("loss_bbox") == ([], [])
    assert history.evaluations == [Evaluation(20, 1, {"coco/bbox_mAP": 0.25})]
    assert history.by_epoch
    assert history.loss_names() == ["loss", "loss_cls"]


def test_mmengine_itself(tmp_path: Path):
    """What its visualiser writes is read back."""
    from mmengine.visualization import LocalVisBackend

    backend = LocalVisBackend(save_dir=str(tmp_path))
    backend.add_scalars({"loss": 1.5, "lr": 0.01, "iter": 50, "decode.loss_ce": 1.0}, step=50)
    backend.add_scalars({"mIoU": 31.5, "aAcc": 80.0, "time": 0.1}, step=50)
    history = read_scalars([tmp_path / "scalars.json"])
    assert history.loss_names() == ["loss", "decode.loss_ce"]
    assert history.evaluations == [Evaluation(50, 50, {"mIoU": 31.5, "aAcc": 80.0})]
    assert not history.by_epoch


def test_resumed_run_replaces_what_it_repeats(tmp_path: Path):
    first = write(
        tmp_path / "1.json",
        [train(i, i) for i in (10, 20)] + [val(1, 0.1)] + [train(30, 30), train(40, 40), val(2, 0.2)],
    )
    second = write(tmp_path / "2.json", [train(30, -30), train(40, -40), train(50, -50)])
    history = read_scalars([first, second])
    assert history.series("loss") == ([10, 20, 30, 40, 50], [10, 20, -30, -40, -50])
    assert [item.step for item in history.evaluations] == [1]
    third = write(tmp_path / "3.json", [val(1, 0.7)])
    assert [item.metrics for item in read_scalars([first, third]).evaluations] == [
        {"coco/bbox_mAP": 0.2},
        {"coco/bbox_mAP": 0.7},
    ]


def test_a_training_from_the_start_replaces_all(tmp_path: Path):
    first = write(tmp_path / "1.json", [val(0, 0.0), train(10, 10), train(20, 20), val(1, 0.1)])
    second = write(tmp_path / "2.json", [val(0, 0.01), train(10, -10), val(1, 0.2)])
    history = read_scalars([first, second])
    assert history.series("loss") == ([10], [-10])
    assert [(item.step, item.metrics["coco/bbox_mAP"]) for item in history.evaluations] == [(0, 0.01), (1, 0.2)]


@pytest.mark.parametrize("more", [{}, {"epoch": 1}])
def test_evaluations_of_step_0_behind_training_are_of_its_iterations(tmp_path: Path, more: dict):
    """As a loop of iterations logs them whose logger counts epochs, resumed in the second file."""
    first = write(tmp_path / "1.json", [train(i, i, **more) for i in (10, 20)] + [val(0, 0.1), train(30, 30, **more)])
    second = write(tmp_path / "2.json", [train(i, -i, **more) for i in (30, 40)] + [val(0, 0.2)])
    history = read_scalars([first, second])
    assert history.series("loss") == ([10, 20, 30, 40], [10, 20, -30, -40])
    evaluations = [Evaluation(step, step, {"coco/bbox_mAP": value}) for step, value in ((20, 0.1), (40, 0.2))]
    assert history.evaluations == evaluations
    assert not history.by_epoch


def test_numbers_that_are_not_finite_and_text_are_left_out(tmp_path: Path):
    file = write(tmp_path / "a.json", [train(1, float("nan"), note="x"), train(2, float("inf")), train(3, 1.0)])
    assert read_scalars([file]).series("loss") == ([3], [1.0])


def test_run_killed_while_it_wrote(tmp_path: Path):
    file = write(tmp_path / "a.json", [train(1, 1.0)])
    file.write_text(file.read_text() + '{"loss": 0.5, "it')
    assert read_scalars([file]).series("loss") == ([1], [1.0])


def test_files_that_are_no_log(tmp_path: Path):
    with pytest.raises(UserError, match="can't be read: No such file"):
        read_scalars([tmp_path / "none.json"])
    (tmp_path / "a.json").write_text("loss: 3\n{}\n")
    with pytest.raises(UserError, match=r"line 1 of .* is not JSON"):
        read_scalars([tmp_path / "a.json"])
    (tmp_path / "a.json").write_text("[1]\n")
    with pytest.raises(UserError, match=r"line 1 of .* is not a JSON object"):
        read_scalars([tmp_path / "a.json"])
    (tmp_path / "a.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is no text"):
        read_scalars([tmp_path / "a.json"])
