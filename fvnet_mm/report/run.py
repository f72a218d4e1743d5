"""The end of a run: pictures, and the lines that say what came out and where it is."""

from pathlib import Path

from mmengine.dist import is_main_process

from fvnet_mm.engine.session import RunResult
from fvnet_mm.report.pictures import draw_contact_sheet, draw_curves

_SHOWN = {"AP": "mAP", "AP50": "mAP_50", "AP75": "mAP_75", "AP_S": "mAP_s", "AP_M": "mAP_m", "AP_L": "mAP_l"}


def report(result: RunResult) -> None:
    """Draws a run's pictures into ``work_dir/vis`` and prints its closing lines; the main process alone does."""
    if not is_main_process():
        return
    folder = result.work_dir / "vis"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    val = result.data.folder.val
    if result.predictions.is_file():
        pictures.append(folder / "detections.png")
        draw_contact_sheet(val.annotation_file, val.image_dir, result.predictions, pictures[-1])
    if result.scalars:
        pictures.append(folder / "curves.png")
        draw_curves(result.scalars, pictures[-1])
    print(closing_lines(result, pictures), flush=True)


def closing_lines(result: RunResult, pictures: list[Path]) -> str:
    """What came out of a run, where its files are, and what to type next."""
    lines = [
        (_when(epochs) if result.next_command else "metrics", format_metrics(metrics))
        for epochs, metrics in _first_and_last(result)
    ]
    lines.append(("checkpoint", str(result.checkpoint)))
    lines.append(("log", str(result.log_file)))
    lines += [("picture", str(picture)) for picture in pictures]
    if result.next_command:
        lines.append(("next", result.next_command))
    return "\n".join(["", *(f"  {label:<16}{text}" for label, text in lines)])


def _when(epochs: int) -> str:
    return f"after {epochs} epoch{'s' * (epochs != 1)}" if epochs else "untrained"


def format_metrics(metrics: dict[str, float]) -> str:
    """COCO's six averages in percent, such as 'AP 12.3  AP50 31.0  ...'."""
    values = {name.split("bbox_")[-1]: value for name, value in metrics.items()}
    shown = [f"{label} {100 * values[name]:.1f}" for label, name in _SHOWN.items() if values.get(name, -1) >= 0]
    return "  ".join(shown) or "AP 0.0  (no detection above the score threshold)"


def _first_and_last(result: RunResult) -> list[tuple[int, dict[str, float]]]:
    first, last = result.evaluations[0], result.evaluations[-1]
    return [first, last] if first[0] == 0 and first is not last else [last]
