"""The end of a run: pictures, and the lines that say what came out and where it is."""

from mmengine.dist import is_main_process

from fvnet_mm.engine.session import RunResult
from fvnet_mm.errors import UserError
from fvnet_mm.report.contact_sheet import draw_contact_sheet
from fvnet_mm.report.curves import draw_curves

_SHOWN = {"AP": "mAP", "AP50": "mAP_50", "AP75": "mAP_75", "AP_S": "mAP_s", "AP_M": "mAP_m", "AP_L": "mAP_l"}


def report(result: RunResult, next_command: str | None = None) -> None:
    """Draws a run's pictures into ``work_dir/vis`` and prints its closing lines; the main process alone does.

    Args:
        result: The run.
        next_command: What to type after a training; None after a test.
    """
    if not is_main_process():
        return
    folder = result.work_dir / "vis"
    val = result.data.folder.val
    pictures = {
        "detections.png": lambda out: draw_contact_sheet(val.annotation_file, val.image_dir, result.predictions, out)
    }
    if result.scalars:
        pictures["curves.png"] = lambda out: draw_curves(result.scalars, out)
    drawn = []
    for name, draw in pictures.items():
        try:
            draw(folder / name)
            drawn.append(str(folder / name))
        except (UserError, OSError) as error:  # metrics are not lost for want of a picture
            drawn.append(f"{name} was not drawn: {error}")
    print(closing_lines(result, drawn, next_command), flush=True)


def closing_lines(result: RunResult, pictures: list[str], next_command: str | None) -> str:
    """What came out of a run, where its files are, and what to type next."""
    lines = [
        (_when(epochs) if next_command else "metrics", format_metrics(metrics))
        for epochs, metrics in _first_and_last(result)
    ]
    lines.append(("checkpoint", str(result.checkpoint)))
    lines.append(("log", str(result.log_file)))
    lines += [("picture", picture) for picture in pictures]
    if next_command:
        lines.append(("next", next_command))
    return "\n".join(["", *(f"  {label:<16}{text}" for label, text in lines)])


def _when(epochs: int) -> str:
    return f"after {epochs} epoch{'s' * (epochs != 1)}" if epochs else "untrained"


def format_metrics(metrics: dict[str, float]) -> str:
    """COCO's six averages in percent, such as 'AP 12.3  AP50 31.0  ...'."""
    values = {name.split("bbox_")[-1]: value for name, value in metrics.items()}
    shown = [f"{label} {100 * values[name]:.1f}" for label, name in _SHOWN.items() if values.get(name, -1) >= 0]
    if not metrics:
        return "AP 0.0  (no detection above the score threshold)"
    return "  ".join(shown) or "no AP: the evaluated images have no objects that count"


def _first_and_last(result: RunResult) -> list[tuple[int, dict[str, float]]]:
    first, last = result.evaluations[0], result.evaluations[-1]
    return [first, last] if first[0] == 0 and first is not last else [last]
