"""What a config's data sets will be, and whether their classes are those of the files and the heads.

The libraries take what a file and a config have in common, without a word: labels would be fewer than the record says,
or stand for other classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS

from fvnet_mm.data.coco_document import enumerate_differences
from fvnet_mm.engine.config_file import class_of, innermost_dataset
from fvnet_mm.errors import UserError

_ADVICE = "or name the data's folder with --data DIR, which does that"

_HEADS = ("bbox_head", "mask_head", "decode_head", "auxiliary_head")
"""Parts of models whose ``num_classes`` is that of the data; others, such as an RPN's, have their own."""


def stated_classes(cfg: Config, name: str) -> tuple[str, ...]:
    """The classes in the ``metainfo`` of a loader's data set; none if it says nothing of them.

    Raises:
        UserError: They are no list of names.
    """
    stated = (_data_set(cfg, name).get("metainfo") or {}).get("classes") or ()
    if isinstance(stated, str):
        raise UserError(
            f"metainfo.classes of {name}_dataloader's data set is the text {stated!r}, not a list of names; write "
            f"classes=[{stated!r}] for a single class."
        )
    return tuple(stated)


def known_classes(cfg: Config, name: str, listed: Sequence[str], place: Path, subset: bool) -> tuple[str, ...]:
    """The classes of a loader's data set, of which a file lists all in the order of the labels.

    Args:
        cfg: The whole config.
        name: 'train' or 'val'.
        listed: The file's classes.
        place: The file.
        subset: Whether ``metainfo`` may name some of them alone.

    Raises:
        UserError: ``metainfo``, or without it the data set's type, has other classes than the file, or the same in
            another order.
    """
    stated = stated_classes(cfg, name)
    kind = _class(cfg, name)
    own = stated or tuple(getattr(kind, "METAINFO", {}).get("classes") or ())
    expected = tuple(known for known in listed if known in stated) if stated and subset else tuple(listed)
    if own == expected:
        return own
    whose = f"metainfo of {name}_dataloader" if stated else getattr(kind, "__name__", f"{name}_dataloader")
    differences = enumerate_differences({whose: own, place.name: expected}) or "another order exchanges the labels"
    raise UserError(
        f"the classes of {whose}{'' if stated else ', which no metainfo of its data set replaces,'} are not those of "
        f"{place} ({differences}); write metainfo=dict(classes=[...]) into the data set, with the file's names in the "
        f"file's order, {_ADVICE}."
    )


def require_agreement(model: ConfigDict, classes: Mapping[str, Sequence[str]]) -> None:
    """Holds the classes of a config's data sets, by loader, against each other and against the model's heads.

    Raises:
        UserError: Training and evaluation have other classes, or a head has another number of them.
    """
    if len(set(map(tuple, classes.values()))) > 1:
        raise UserError(
            f"the data sets of training and evaluation have other classes ({enumerate_differences(classes)}); write "
            f"the same metainfo=dict(classes=[...]) into both, {_ADVICE}."
        )
    count = len(next(iter(classes.values())))
    for place, head in _heads(model, "model"):
        if head.get("num_classes", count) != count:
            raise UserError(
                f"{place}.num_classes is {head['num_classes']}, and the data set has {count} classes; set it to "
                f"{count}, {_ADVICE}."
            )


def argument_of(cfg: Config, name: str, argument: str) -> object:
    """An argument of a loader's data set: the config's, else its type's default, also of the classes above; or None."""
    dataset = _data_set(cfg, name)
    if argument in dataset:
        return dataset[argument]
    above = getattr(_class(cfg, name), "__mro__", ())
    stated = (signature(owner.__init__).parameters.get(argument) for owner in above)
    return next((parameter.default for parameter in stated if parameter), None)


def _class(cfg: Config, name: str) -> object | None:
    return class_of(_data_set(cfg, name), DATASETS, cfg.get("default_scope"))


def _data_set(cfg: Config, name: str) -> ConfigDict:
    return innermost_dataset(cfg[f"{name}_dataloader"].dataset)


def _heads(model: ConfigDict, place: str) -> Iterator[tuple[str, ConfigDict]]:
    for key in _HEADS:
        heads = model.get(key) or ()
        for head in heads if isinstance(heads, list | tuple) else [heads]:
            yield f"{place}.{key}", head
    if isinstance(model.get("roi_head"), dict):
        yield from _heads(model.roi_head, f"{place}.roi_head")
