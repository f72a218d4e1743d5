"""What tables call things: trunks, frameworks, data sets, metrics and fields of the protocol."""

from __future__ import annotations

import json
import re

from fvnet_mm.data.classes import ADE20K_CLASSES, COCO_CLASSES
from fvnet_mm.data.published_sets import ADE20K, COCO, IMAGENET, IMAGES
from fvnet_mm.records import Protocol, RunRecord

PUBLISHED_AS = {
    "edgenext_small": ("EdgeNeXt", ("small", "small_usi")),
    "efficientformer_l1": ("EfficientFormer", ("L1",)),
    "efficientformer_l3": ("EfficientFormer", ("L3",)),
    "efficientformer_l7": ("EfficientFormer", ("L7",)),
    "efficientformerv2_l": ("EfficientFormerV2", ("L",)),
    "efficientformerv2_s0": ("EfficientFormerV2", ("S0",)),
    "efficientformerv2_s1": ("EfficientFormerV2", ("S1",)),
    "efficientformerv2_s2": ("EfficientFormerV2", ("S2",)),
    "fastvit_sa12": ("FastViT", ("SA12",)),
    "fastvit_sa24": ("FastViT", ("SA24",)),
    "fastvit_t8": ("FastViT", ("T8",)),
    "mambaout_femto": ("MambaOut", ("Femto",)),
    "mambaout_kobe": ("MambaOut", ("Kobe",)),
    "mobilenet_v2": ("MobileNetV2", ("x1.0", "1.00", "(variant not stated)")),
    "mobilenet_v3_large": ("MobileNetV3", ("Large x1.0", "large", "(variant not stated)")),
    "mobilenetv4_conv_medium": ("MobileNetV4", ("Conv-M",)),
    "mobilenetv4_conv_small": ("MobileNetV4", ("Conv-S",)),
    "mobileone_s1": ("MobileOne", ("S1",)),
    "poolformer_s12": ("PoolFormer", ("S12",)),
    "poolformer_s24": ("PoolFormer", ("S24",)),
    "pvt_v2_b0": ("PVTv2", ("B0",)),
    "pvt_v2_b1": ("PVTv2", ("B1",)),
    "repvit_m0_9": ("RepViT", ("M0.9",)),
    "repvit_m1_1": ("RepViT", ("M1.1",)),
    "repvit_m1_5": ("RepViT", ("M1.5",)),
    "repvit_m2_3": ("RepViT", ("M2.3",)),
    "resnet18": ("ResNet", ("18",)),
    "resnet50": ("ResNet", ("50",)),
    "starnet_s1": ("StarNet", ("S1",)),
    "starnet_s4": ("StarNet", ("S4",)),
    "swiftformer_l1": ("SwiftFormer", ("L1",)),
    "swiftformer_l3": ("SwiftFormer", ("L3",)),
    "swiftformer_s": ("SwiftFormer", ("S",)),
    "swiftformer_xs": ("SwiftFormer", ("XS",)),
}
"""The family and the variants under which published tables have a trunk; of FVNets there is nothing published."""

TRUNKS = {
    **{name: f"{family}-{variants[0]}" for name, (family, variants) in PUBLISHED_AS.items()},
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_large": "MobileNetV3-large",
    **{f"fvnet_{size}": f"FVNet-{size.upper()}" for size in "ntsml"},
}
"""Backbone descriptions as papers print them: mostly the family and the first of its variants."""

FRAMEWORKS = {
    "classification": "Classification",
    "retinanet": "RetinaNet",
    "mask_rcnn": "Mask R-CNN",
    "semantic_fpn": "Semantic FPN",
    "upernet": "UperNet",
}
"""The suite's frameworks as published tables print them, in the order of the tables."""

_AP = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")
_AR = ("AR_1", "AR_10", "AR_100", "AR_S", "AR_M", "AR_L")
_SEMANTIC = ("mIoU", "mAcc", "aAcc")
_TOP = ("top-1", "top-5")

PRINTED_METRICS = (*_AP, *(f"mask {name}" for name in _AP), *_SEMANTIC, *_TOP)
"""Metrics with a column in tables to be read on paper, in their order."""

METRICS = (*_AP, *_AR, *(f"mask {name}" for name in (*_AP, *_AR)), *_SEMANTIC, *_TOP)
"""All metrics of records, in the order of tables."""

MAIN_METRICS = {
    "detection": "AP",
    "instance_segmentation": "AP",
    "semantic_segmentation": "mIoU",
    "classification": "top-1",
}
"""By which metric a task's rows are ordered: of masks it is the AP of the boxes, as the published tables do."""

PRETRAINING = {
    "scratch": "from scratch",
    "plain": "plain pretraining",
    "distilled": "distilled pretraining",
    "unstated": "pretraining unstated",
    "fine-tuned": "fine-tuned",
}


def in_order(metrics: set[str]) -> tuple[str, ...]:
    """Metrics in the order of :data:`METRICS`, others behind them by name."""
    known = [name for name in METRICS if name in metrics]
    return (*known, *sorted(metrics.difference(known)))


def benchmark_of(record: RunRecord) -> str | None:
    """The benchmark whose classes and images a run has, all of them; None where it is of other data, or of a part.

    Of a test, which has no training split, the validation split decides.
    """
    data = record.data
    if data is None or data.val is None or any(map(reads_part, pipelines(record.protocol))):
        return None
    name = {COCO_CLASSES: COCO, ADE20K_CLASSES: ADE20K}.get(data.classes)
    name = name or (IMAGENET if len(data.classes) == 1000 else None)
    train, val = IMAGES.get(name, (None, None))
    whole = data.val.images == val and (data.train is None or data.train.images == train)
    return name if whole else None


def data_name(record: RunRecord) -> str:
    """The benchmark's name, or else the label that the record has for its data."""
    return benchmark_of(record) or (record.data.label if record.data is not None else "unknown data")


def pipelines(protocol: Protocol) -> tuple[str | None, str | None]:
    """Of training and test images."""
    return protocol.train_pipeline, protocol.test_pipeline


def reads_part(pipeline: str | None) -> bool:
    """Whether a pipeline in words is of some images of its split, which a data set's ``indices`` pick out."""
    return re.search(r"\bindices=", pipeline or "") is not None


def data_key(record: RunRecord) -> str:
    """What tells one data set from another: its fingerprint, wherever it lies, or else all that the record says of it.

    That is its name with its classes and the fingerprint of its validation split, as of a test without the record of
    its training, whose protocol has none of the data. Where nothing but a name is known, it is the name.
    """
    data = record.data
    if record.protocol.data is not None or data is None:
        return record.protocol.data or data_name(record)
    images = data.val.fingerprint if data.val is not None else None
    known = data.classes or images is not None
    return json.dumps([data_name(record), data.classes, images]) if known else data_name(record)


def schedule_name(protocol: Protocol) -> str | None:
    """The length of a training in the words of published tables: '1x', '40k', '300e'; None where it isn't known."""
    if protocol.length is None or protocol.length_unit is None:
        return None
    if protocol.length_unit == "step":
        return f"{protocol.length / 1000:g}k"
    if protocol.framework == "classification":
        return f"{protocol.length}e"
    return f"{protocol.length / 12:g}x"


def length_in_words(protocol: Protocol) -> str | None:
    """The length of a training, such as '12 epochs'; None where it isn't known."""
    if protocol.length is None or protocol.length_unit is None:
        return None
    return f"{protocol.length:,} {protocol.length_unit}{'s' * (protocol.length != 1)}"


def protocol_summary(protocol: Protocol) -> str:
    """The fields that readers ask for next, after what a table's title says, in one line; unknown ones are left out."""
    parts = [
        protocol.optimizer.partition("(")[0] if protocol.optimizer is not None else None,
        f"learning rate {protocol.learning_rate:g}" if protocol.learning_rate is not None else None,
        f"weight decay {protocol.weight_decay:g}" if protocol.weight_decay is not None else None,
        f"batch {protocol.effective_batch}" if protocol.effective_batch is not None else None,
        protocol.precision,
        "moving average of the weights" if protocol.averaged else None,
    ]
    return ", ".join(part for part in parts if part)
