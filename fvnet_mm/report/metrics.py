"""Names and numbers of the metrics as papers print them, out of the three libraries' dictionaries."""

from __future__ import annotations

from collections.abc import Mapping

_AVERAGES = {"AP": "mAP", "AP50": "mAP_50", "AP75": "mAP_75", "AP_S": "mAP_s", "AP_M": "mAP_m", "AP_L": "mAP_l"}

# Key, without its evaluator's prefix -> name, and the factor that makes it a percentage.
_METRICS: dict[str, tuple[str, int]] = {
    **{f"bbox_{key}": (name, 100) for name, key in _AVERAGES.items()},
    **{f"segm_{key}": (f"mask {name}", 100) for name, key in _AVERAGES.items()},
    "mIoU": ("mIoU", 1),
    "mAcc": ("mAcc", 1),
    "aAcc": ("aAcc", 1),
    "top1": ("top-1", 1),
    "top5": ("top-5", 1),
}


def in_percent(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that papers print, under the names they print, in percent.

    Args:
        metrics: as mmengine's evaluators return or log them: ``coco/bbox_mAP`` and ``coco/segm_mAP`` with their
            kin (mmdet; shares), ``mIoU``, ``mAcc`` and ``aAcc`` (mmseg; percent), ``accuracy/top1`` and
            ``accuracy/top5`` (mmpretrain; percent).

    Returns:
        By name, the task's main metric first: ``{"AP": 12.3, "AP50": 31.0, ..., "mask AP": 11.2, ...}``. What is an
        average over nothing is left out (-1 in COCO's metrics, not a number in mmseg's).
    """
    values = {key.rpartition("/")[2]: value for key, value in metrics.items()}
    return {name: factor * values[key] for key, (name, factor) in _METRICS.items() if values.get(key, -1) >= 0}


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Write metrics as one line in percent, such as ``AP 12.3  AP50 31.0  ...`` or ``mIoU 31.5  mAcc 43.0  ...``."""
    if not metrics:  # mmdet's, where nothing is detected
        return "AP 0.0  (no detection above the score threshold)"
    shown = [f"{name} {value:.1f}" for name, value in in_percent(metrics).items()]
    if shown:
        return "  ".join(shown)
    if any("mAP" in key for key in metrics):
        return "no AP: the evaluated images have no objects that count"
    return f"none of the usual metrics, but {', '.join(f'{key} {value:.4g}' for key, value in metrics.items())}"
