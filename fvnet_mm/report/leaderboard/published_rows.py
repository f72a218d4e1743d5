"""Published results as rows of a table: of the same framework, data set and length of training.

They stand apart from measured rows, since nobody who published a number trained under the suite's whole protocol.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from fvnet_mm.data.published_sets import ADE20K, COCO, IMAGENET
from fvnet_mm.records import Protocol
from fvnet_mm.report.leaderboard.model import Row, Statistic
from fvnet_mm.report.leaderboard.names import FRAMEWORKS, PUBLISHED_AS, schedule_name
from fvnet_mm.report.published import MACS_AT_512, PublishedResult

_FRAMEWORKS = FRAMEWORKS | {"classification": "classification"}
_DATA = {"imagenet": IMAGENET, "coco_det": COCO, "coco_inst": COCO, "ade20k": ADE20K}
_METRICS = {
    "top1": "top-1",
    "mIoU": "mIoU",
    **{
        f"{ours}_AP{theirs}": f"{prefix}AP{suffix}"
        for ours, prefix in (("bbox", ""), ("mask", "mask "))
        for theirs, suffix in (("", ""), ("50", "50"), ("75", "75"), ("s", "_S"), ("m", "_M"), ("l", "_L"))
    },
}
_SEVERAL_SCALES = "mIoU_ms"
_SCOPES = {
    "backbone": "parameters and MACs of the classification network",
    MACS_AT_512: "parameters and MACs of the classification network, at 512x512",
    "detector": "parameters and MACs of the whole detector",
    "segmentor": "parameters and MACs of the whole segmentor",
}
_TRUNKS = {(family, variant): name for name, (family, variants) in PUBLISHED_AS.items() for variant in variants}


def published_rows(
    results: Iterable[PublishedResult], framework: str, data: str | None, protocol: Protocol, main_metric: str
) -> tuple[Row, ...]:
    """The published results that stand beside a table, best first; those without its main metric are left out.

    Args:
        results: All that is published.
        framework: Of the table, as in its protocol.
        data: Of the table, as :func:`~fvnet_mm.report.leaderboard.names.benchmark_of` says it; beside None stands none.
        protocol: Of the table; the length of the training must be the same.
        main_metric: By which rows are ordered.
    """
    schedule = schedule_name(protocol)
    if schedule is None or framework not in _FRAMEWORKS:
        return ()
    groups: dict[tuple[str, ...], list[PublishedResult]] = {}
    for result in results:
        wanted = (_FRAMEWORKS[framework], data, schedule)
        if (result.framework, _DATA[result.task], result.schedule) == wanted:
            key = (result.backbone, result.variant, result.input_size, result.source, result.note)
            groups.setdefault(key, []).append(result)
    rows = [_row(framework, group) for group in groups.values()]
    rows = [row for row in rows if main_metric in row.metrics]
    return tuple(sorted(rows, key=lambda row: (-row.metrics[main_metric].mean, row.label, row.id)))


def _row(framework: str, group: list[PublishedResult]) -> Row:
    first = group[0]
    label = f"{first.backbone}-{first.variant}"
    if first.variant.startswith("("):
        label = f"{first.backbone} {first.variant}"
    name = _TRUNKS.get((first.backbone, first.variant), label.lower())
    key = "|".join((framework, first.schedule, label, first.input_size, first.source, first.note))
    sized = next((result for result in group if result.params_scope), None)
    parameters, macs, shape = _size(sized)
    return Row(
        id=f"published-{framework}-{_plain(name)}-{hashlib.sha256(key.encode()).hexdigest()[:8]}",
        backbone=name,
        label=label,
        provenance="published",
        metrics={_METRICS[r.metric]: Statistic(mean=float(r.value)) for r in group if r.metric in _METRICS},
        parameters=parameters,
        macs=macs,
        macs_shape=shape,
        pretraining=_pretraining(first.note),
        source=f"{first.source} ({first.source_kind})",
        note=_note(group, sized),
    )


def _size(
    result: PublishedResult | None,
) -> tuple[tuple[float | None, float | None], tuple[float | None, float | None], tuple[int, int] | None]:
    """Parameters and MACs of (trunk, model), and at which image: a paper states those of one of the two."""
    if result is None:
        return (None, None), (None, None), None
    parameters = float(result.params_m) if result.params_m is not None else None
    macs = float(result.macs_g) if result.macs_g is not None else None
    if result.params_scope in ("detector", "segmentor"):
        return (None, parameters), (None, macs), None
    return (parameters, None), (macs, None), (512, 512) if result.params_scope == MACS_AT_512 else None


def _note(group: list[PublishedResult], sized: PublishedResult | None) -> str | None:
    parts = [group[0].note, _SCOPES[sized.params_scope] if sized is not None else ""]
    parts += [f"{r.value} mIoU at several scales, flipped" for r in group if r.metric == _SEVERAL_SCALES]
    return "; ".join(part for part in parts if part) or None


def _pretraining(note: str) -> str:
    if "no distillation" in note:
        return "plain"
    return "distilled" if "distilled" in note else "unstated"


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name).strip("_")
