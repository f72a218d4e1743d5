"""Settings of a config in words, above all those of its data."""

import pytest

from fvnet_mm.records.loading import evaluated_together, pipeline_in_words, sampling_in_words
from fvnet_mm.records.words import in_words

RESIZE = dict(type="Resize", scale=(1333, 800), keep_ratio=True)


def test_words() -> None:
    words = in_words(dict(type="mmdet.Resize", scale=[1333, 800], keep_ratio=True, backend_args=None, backend="cv2"))
    assert words == "Resize(backend=cv2, keep_ratio=True, scale=(1333, 800))"
    assert in_words(dict(type="Pad", size=None)) == "Pad"
    assert in_words(dict(b=1.0, a=dict(type="SyncBN"), file="/some/where")) == "(a=BN, b=1)"
    assert in_words([dict(type="SyncBN"), dict(type="ProcessSyncBN"), dict(type="LN")]) == "(BN, BN, LN)"
    assert in_words(dict(type=dict)) == "dict"
    assert in_words(dict(a=dict(in_channels=3, k=1e-5)), ("in_channels",)) == "(a=(k=1e-05))"


def test_wrapped_data_sets() -> None:
    inner = dict(type="CocoDataset", ann_file="a.json", pipeline=[dict(type="Load")], filter_cfg=dict(min_size=32))
    wrapped = dict(type="RepeatDataset", times=3, dataset=inner)
    assert pipeline_in_words(inner) == "filter(min_size=32), Load"
    assert pipeline_in_words(wrapped) == "filter(min_size=32), Load, RepeatDataset(times=3)"
    assert pipeline_in_words(dict(type="ConcatDataset", datasets=[inner, wrapped])).count("|") == 1
    other = dict(inner, type="mmdet.Objects365V1Dataset", data_root="x", lazy_init=True, caption_prompt=dict(a="b"))
    assert pipeline_in_words(other) == "Objects365V1Dataset(caption_prompt=(a=b)), filter(min_size=32), Load"
    mixed = dict(type="MultiImageMixDataset", dataset=inner, pipeline=[dict(type="Mosaic")])
    assert pipeline_in_words(mixed) == "filter(min_size=32), Load, MultiImageMixDataset, Mosaic"


@pytest.mark.parametrize(
    ("kind", "stated", "step", "words"),
    [
        ("BaseSegDataset", {}, {}, "L"),
        ("BaseSegDataset", dict(reduce_zero_label=True), {}, "BaseSegDataset(reduce_zero_label=True), L"),
        ("ADE20KDataset", {}, {}, "ADE20KDataset(reduce_zero_label=True), L"),
        ("BaseSegDataset", dict(reduce_zero_label=True), dict(reduce_zero_label=True), "L(reduce_zero_label=True)"),
    ],
)
def test_a_first_label_that_is_left_out_is_said_once(
    kind: str, stated: dict[str, bool], step: dict[str, bool], words: str
) -> None:
    assert pipeline_in_words(dict(type=kind, pipeline=[dict(type="L", **step)], **stated)) == words


@pytest.mark.parametrize(
    ("scope", "dataset", "batches", "words"),
    [
        ("mmdet", "CocoDataset", dict(type="AspectRatioBatchSampler"), []),
        ("mmdet", "CocoDataset", dict(type="AspectRatioBatchSampler", drop_last=False), []),
        (
            "mmdet",
            "CocoDataset",
            dict(type="AspectRatioBatchSampler", drop_last=True),
            ["AspectRatioBatchSampler(drop_last=True)"],
        ),
        ("mmdet", "CocoDataset", None, ["no batch_sampler"]),
        ("mmdet", "ResidentDataset", None, []),
        ("mmdet", "ResidentDataset", dict(type="AspectRatioBatchSampler"), ["AspectRatioBatchSampler"]),
        ("mmseg", "ADE20KDataset", None, []),
    ],
)
def test_detectors_that_read_files_have_batches_by_shape(
    scope: str, dataset: str, batches: dict[str, object] | None, words: list[str]
) -> None:
    assert sampling_in_words(dict(dataset=dict(type=dataset), batch_sampler=batches), scope) == words


@pytest.mark.parametrize(
    ("steps", "one_size", "words"),
    [
        ([RESIZE], None, ["batches of 8"]),
        ([RESIZE], False, ["batches of 8"]),
        ([RESIZE], True, []),
        ([RESIZE, dict(type="Pad", size=(800, 1333))], False, []),
        ([RESIZE, dict(type="Pad", size_divisor=32)], False, ["batches of 8"]),
        ([dict(RESIZE, keep_ratio=False)], False, []),
        ([dict(type="Resize", scale_factor=1.0)], None, []),
        ([dict(type="Resize", scale_factor=1.0)], False, ["batches of 8"]),
    ],
)
def test_images_that_are_evaluated_together_pad_each_other_where_sizes_differ(
    steps: list[dict[str, object]], one_size: bool | None, words: list[str]
) -> None:
    loader = dict(batch_size=8, dataset=dict(pipeline=steps))
    assert evaluated_together(loader, "mmdet", one_size) == words
    assert evaluated_together(loader, "mmseg", one_size) == []  # which evaluates none together that differ
    assert evaluated_together(dict(loader, batch_size=1), "mmdet", one_size) == []
