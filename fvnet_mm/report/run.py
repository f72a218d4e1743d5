"""The end of a run: pictures, and the lines that say what came out and where it is."""

from collections.abc import Callable
from pathlib import Path

from mmengine.dist import is_main_process

from fvnet_mm.data.ade20k_layout import Ade20kFolder
from fvnet_mm.data.coco_layout import CocoFolder
from fvnet_mm.engine.hooks import LoggedMetrics
from fvnet_mm.engine.session import RunResult
from fvnet_mm.errors import UserError
from fvnet_mm.report.classification_sheet import draw_classification_sheet
from fvnet_mm.report.contact_sheet import draw_contact_sheet
from fvnet_mm.report.curves import draw_curves
from fvnet_mm.report.metrics import format_metrics
from fvnet_mm.report.segmentation_sheet import SegmentedImage, draw_segmentation_sheet


def report(result: RunResult, next_command: str | None = None) -> None:
    """Draws a run's pictures into ``work_dir/vis`` and prints its closing lines; the main process alone does.

    Args:
        result: The run.
        next_command: What to type after a training; None after a test.
    """
    if not is_main_process():
        return
    folder = result.work_dir / "vis"
    pictures = {"predictions.png": lambda out: _draw_predictions(result, out)}
    if result.scalars:
        pictures["curves.png"] = lambda out: draw_curves(result.scalars, out)
    drawn = [_draw(draw, folder / name) for name, draw in pictures.items()]
    print(closing_lines(result, drawn, next_command), flush=True)


def _draw(draw: Callable[[Path], object], out_file: Path) -> str:
    try:
        draw(out_file)
    except (UserError, OSError) as error:  # metrics are not lost for want of a picture
        return f"{out_file.name} was not drawn: {error}"
    return str(out_file)


def _draw_predictions(result: RunResult, out_file: Path) -> None:
    folder, place = result.data.folder, result.predictions
    if isinstance(folder, CocoFolder):
        masks = Path(f"{place}.segm.json")
        draw_contact_sheet(
            folder.val.annotation_file,
            folder.val.image_dir,
            Path(f"{place}.bbox.json"),
            out_file,
            segmentations_file=masks if masks.is_file() else None,
        )
    elif isinstance(folder, Ade20kFolder):
        val = folder.val
        if val.shared_names:
            raise UserError("images in several folders have one name, so their predictions overwrite each other.")
        files = zip(val.stems, val.image_names, val.label_names, strict=True)
        draw_segmentation_sheet(
            [
                SegmentedImage(val.image_dir / image, val.label_dir / label, place / f"{Path(stem).name}.png")
                for stem, image, label in files
            ],
            folder.classes,
            out_file,
        )
    else:
        draw_classification_sheet(Path(f"{place}.json"), folder.val.image_dir, folder.classes, out_file)


def closing_lines(result: RunResult, pictures: list[str], next_command: str | None) -> str:
    """What came out of a run, where its files are, and what to type next."""
    lines = [
        (_when(evaluation.step, result.unit) if next_command else "metrics", format_metrics(evaluation.metrics))
        for evaluation in _first_and_last(result)
    ]
    lines.append(("checkpoint", str(result.checkpoint)))
    lines.append(("log", str(result.log_file)))
    lines += [("picture", picture) for picture in pictures]
    if next_command:
        lines.append(("next", next_command))
    width = max(15, *(len(label) for label, _ in lines))
    return "\n".join(["", *(f"  {label:<{width}} {text}" for label, text in lines)])


def _when(step: int, unit: str) -> str:
    return f"after {step} {unit}{'s' * (step != 1)}" if step else "untrained"


def _first_and_last(result: RunResult) -> list[LoggedMetrics]:
    first, last = result.evaluations[0], result.evaluations[-1]
    return [first, last] if first.step == 0 and first is not last else [last]
