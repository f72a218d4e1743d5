"""What is inside a checkpoint file: which of its weights to take, and what its names begin with."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from fvnet_mm.errors import UserError

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
"""Where training scripts keep the exponential moving average of the weights; the first that is there is taken."""

PLAIN = ("state_dict", "model", "model_state_dict", "module", "net")
"""Where they keep the weights themselves, which are taken where there is no average."""

WRAPPERS = ("module", "_orig_mod", "model", "backbone", "encoder", "timm_model", "net", "network", "student", "trunk")
"""What names of tensors begin with when the network was a part of something."""

_DEPTH = 4  # containers within containers; {'ema': {'module': ...}} is two


@dataclass(frozen=True)
class FileContent:
    """The weights in a checkpoint file.

    Attributes:
        container: The keys that lead to them, such as ``state_dict``; empty where the file holds nothing else.
        averaged: Whether they are a moving average over the training.
        tensors: The weights by name.
    """

    container: str
    averaged: bool
    tensors: dict[str, torch.Tensor]


def weights_in(checkpoint: Mapping[str, object], source: str) -> FileContent:
    """Finds the weights in what a training script saved.

    An average of the weights is preferred. mmengine's ``EMAHook`` is the trap: on saving it swaps the two, so that
    ``state_dict`` has the average and ``ema_state_dict`` (recognised by its step counter) the last raw weights.

    Args:
        checkpoint: Content of a file, see :func:`~fvnet_mm.engine.checkpoint.read_checkpoint`.
        source: Where it comes from, for the message.

    Raises:
        UserError: There is no tensor where weights are kept.
    """
    keys = _way_to_tensors(checkpoint, _DEPTH)
    if keys is None:
        raise UserError(
            f"{source} holds no weights where they are kept; its entries are: {some_of(checkpoint) or 'none'}."
        )
    content, averaged = checkpoint, False
    for key in keys:
        averaged |= key in AVERAGED or (key == "state_dict" and _swapped_by_ema_hook(content))
        content = content[key]
    tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    return FileContent(".".join(keys), averaged, tensors)


def under_prefix(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def wrapper_prefixes(names: Iterable[str]) -> list[str]:
    """Every beginning of a name that is made of :data:`WRAPPERS`; the shortest, the empty one, first."""
    found = {""}
    for name in names:
        prefix = ""
        for word in name.split(".")[:-1]:
            if word not in WRAPPERS:
                break
            prefix += f"{word}."
            found.add(prefix)
    return sorted(found, key=lambda prefix: (prefix.count("."), prefix))


def some_of(names: Iterable[object]) -> str:
    """The first three names and the number of the others, for a message."""
    words = [str(name) for name in names]
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return ", ".join(words[:3]) + more


def _way_to_tensors(content: Mapping[str, object], depth: int) -> list[str] | None:
    """The keys of nested dicts that lead to tensors, the preferred way; None if no way does."""
    for key in ("state_dict",) if _swapped_by_ema_hook(content) else (*AVERAGED, *PLAIN):
        inner = content.get(key)
        if isinstance(inner, dict) and depth > 0 and (way := _way_to_tensors(inner, depth - 1)) is not None:
            return [key, *way]
    return [] if any(isinstance(value, torch.Tensor) for value in content.values()) else None


def _swapped_by_ema_hook(content: Mapping[str, object]) -> bool:
    average = content.get("ema_state_dict")
    return isinstance(average, dict) and "steps" in average and isinstance(content.get("state_dict"), dict)
