"""Settings of a config in canonical words."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

Settings = Mapping[str, object]
_Settings = TypeVar("_Settings", bound=Settings)

_READING = ("type", "_scope_", "backend_args", "file_client_args", "meta_keys", "checkpoint")
"""Arguments that say how files are read or what is handed on, not what comes out."""


def in_words(value: object, without: Collection[str] = ()) -> str:
    """A setting in canonical words: ``Resize(keep_ratio=True, scale=(1333, 800))``.

    Arguments stand in alphabetical order, lists as tuples, SyncBN as the BN that it equals on one device. Those that
    are None, that hold paths or URLs, or that say how files are read are left out.

    Args:
        value: A dict with or without a type, a list, or a plain value.
        without: Further arguments to leave out, at any depth.
    """
    if isinstance(value, Mapping):
        arguments = [
            f"{key}={in_words(value[key], without)}"
            for key in sorted(value, key=str)
            if key not in _READING and key not in without and value[key] is not None and not _is_place(value[key])
        ]
        name = name_of(value)
        return f"{name}({', '.join(arguments)})" if arguments or not name else name
    if isinstance(value, list | tuple):
        return f"({', '.join(in_words(item, without) for item in value)})"
    if isinstance(value, float):
        return f"{value:.10g}"
    return getattr(value, "__name__", str(value))


def name_of(settings: Settings) -> str:
    """The type that a dict names, without its registry or module; empty if it names none."""
    kind = settings.get("type", "")
    name = (kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2]
    return "BN" if name in ("SyncBN", "ProcessSyncBN") else name


def dataset_layers(dataset: _Settings) -> list[_Settings]:
    """A data set's settings and those of the data sets inside it, from the outermost wrapper to the innermost."""
    layers = [dataset]
    while "dataset" in layers[-1]:
        layers.append(layers[-1]["dataset"])
    return layers


def _is_place(value: object) -> bool:
    return isinstance(value, Path) or (isinstance(value, str) and "/" in value)
