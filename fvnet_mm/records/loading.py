"""What a config says of its images in words: which are read, what becomes of them, how they are drawn."""

from collections.abc import Mapping

from fvnet_mm.records.words import Settings, in_words, name_of

_PLAIN_SETS = ("CocoDataset", "IndexedCocoDataset", "BaseSegDataset", "ADE20KDataset", "CustomDataset", "ImageNet")
"""Data sets that are their files and their classes, which are recorded themselves."""

_OF_SETS = (
    "pipeline",
    "data_root",
    "data_prefix",
    "ann_file",
    "split",
    "img_suffix",
    "seg_map_suffix",
    "extensions",
    "metainfo",
    "classes",
    "with_label",
    "reduce_zero_label",
    "filter_cfg",
    "indices",
    "test_mode",
    "serialize_data",
    "lazy_init",
    "max_refetch",
)
"""Arguments of data sets that say where files are, of which classes and how they are held, or that have own words."""

_PLAIN_SAMPLERS = ("DefaultSampler", "InfiniteSampler")
_BY_SHAPE = "AspectRatioBatchSampler"
_PLAIN_COLLATIONS = ("pseudo_collate", "default_collate", "hand_on")


def pipeline_in_words(dataset: Settings) -> str:
    """What a data set's config makes of its files, from the innermost data set to its last wrapper.

    The innermost is named where it is not one of those that are their files and classes alone.
    """
    if "datasets" in dataset:
        return " | ".join(map(pipeline_in_words, dataset["datasets"]))
    steps = [in_words(step) for step in dataset.get("pipeline") or ()]
    if "dataset" in dataset:
        inner = dataset["dataset"]
        wrapper = in_words({key: value for key, value in dataset.items() if key not in ("dataset", "pipeline")})
        return ", ".join([pipeline_in_words(inner), wrapper, *steps])
    return ", ".join([*_set_in_words(dataset), *steps])


def _set_in_words(dataset: Settings) -> list[str]:
    rest = {key: value for key, value in dataset.items() if key not in _OF_SETS}
    if dataset.get("filter_cfg") and dataset.get("test_mode"):  # which leaves nothing out then
        rest["test_mode"] = True
    if dataset.get("reduce_zero_label", name_of(dataset) == "ADE20KDataset") and not any(
        "reduce_zero_label" in step for step in dataset.get("pipeline") or ()
    ):  # whose steps take it from the data set
        rest["reduce_zero_label"] = True
    words = in_words(rest)
    named = [] if words in ("()", *_PLAIN_SETS) else [words]
    if dataset.get("indices") is not None:
        named.append(f"indices={in_words(dataset['indices'])}")
    if dataset.get("filter_cfg"):
        named.append(f"filter{in_words(dataset['filter_cfg'])}")
    return named


def sampling_in_words(loader: Settings, scope: str) -> list[str]:
    """How training images are drawn and put together, where it is not each as often as any other, shuffled.

    Detectors' batches are of images that are all wide or all high, but for data in memory, which has one size.

    Args:
        loader: The training's.
        scope: The library that a config is for.
    """
    sampler, batches, collation = (loader.get(key) or {} for key in ("sampler", "batch_sampler", "collate_fn"))
    shuffled = sampler.get("shuffle", True) and sampler.get("round_up", True)
    words = [] if name_of(sampler) in ("", *_PLAIN_SAMPLERS) and shuffled else [in_words(sampler)]
    by_shape = scope == "mmdet" and name_of(loader["dataset"]) != "ResidentDataset"
    if not batches:
        words += ["no batch_sampler"] if by_shape else []
    elif not by_shape or name_of(batches) != _BY_SHAPE or batches.get("drop_last"):
        words.append(in_words(batches))
    if isinstance(collation, Mapping) and name_of(collation) not in ("", *_PLAIN_COLLATIONS):
        words.append(in_words(collation))
    if (batches_an_epoch := loader.get("num_batch_per_epoch")) is not None:
        words.append(f"num_batch_per_epoch={batches_an_epoch}")
    return words + (["drop_last"] if loader.get("drop_last") else [])


def evaluated_together(loader: Settings, scope: str, one_size: bool | None) -> list[str]:
    """How many images are evaluated at once, where they are padded to the largest of them, as detectors do it.

    Args:
        loader: The evaluation's.
        scope: The library that a config is for.
        one_size: Whether the files have one size; where nobody knows, they have it unless they are brought into a
            frame with their ratio kept.
    """
    batch = loader.get("batch_size") or 1
    steps = loader["dataset"].get("pipeline") or ()
    if scope != "mmdet" or batch == 1 or one_size or any(map(_brings_to_size, steps)):
        return []
    framed = any(name_of(step) == "Resize" and step.get("scale") for step in steps)
    return [f"batches of {batch}"] if framed or one_size is False else []


def _brings_to_size(step: Settings) -> bool:
    """Whether images have one size after a transform, whatever they had before."""
    resized = name_of(step) == "Resize" and step.get("scale") and not step.get("keep_ratio")
    return bool(resized or (name_of(step) == "Pad" and step.get("size")))
