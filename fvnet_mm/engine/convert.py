"""From the checkpoint of a classifier to a file of its backbone: plain tensors, and where they come from."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

import fvnet_mm
from fvnet_mm.engine.checkpoint import read_checkpoint
from fvnet_mm.engine.state_dicts import some_of, under_prefix, weights_in, wrapper_prefixes
from fvnet_mm.errors import UserError
from fvnet_mm.files import replacing, sha256_of, written_or_said

CLASSIFIERS = ("head", "heads", "head_dist", "aux_head", "fc", "classifier", "classifier_dist", "last_linear", "logits")
"""What torchvision, timm and the networks' own repositories call the classifier on top of a backbone."""

_TIMESTAMP = re.compile(r"_\d{8}_\d{6}$")  # mmengine adds it to the name of an experiment


@dataclass(frozen=True)
class Conversion:
    """A backbone file.

    Attributes:
        path: The file.
        sha256: Of the file.
        values: Number of values in its tensors.
        provenance: What the file says of its origin.
    """

    path: Path
    sha256: str
    values: int
    provenance: dict[str, str | int | bool]


def convert(source: Path, target: Path, prefix: str | None = None, force: bool = False) -> Conversion:
    """Writes the backbone in a classifier's checkpoint to a file of its own.

    Of the suite's and OpenMMLab's checkpoints, ``backbone`` is taken. Others have no such part: theirs is everything
    but what a name in :data:`CLASSIFIERS` begins with. Averaged weights are preferred, see
    :func:`~fvnet_mm.engine.state_dicts.weights_in`. The same source gives the same file, byte by byte.

    Args:
        source: A ``.pth`` or ``.safetensors`` file.
        target: Where to write; its suffix, likewise, is the format. The provenance is a JSON text in the metadata of
            a safetensors file and the dict ``meta`` beside ``state_dict`` in a ``.pth`` file.
        prefix: The part to take in place of ``backbone``, such as ``student.backbone``.
        force: Whether to write over an existing file.

    Raises:
        UserError: The source cannot be read or has no backbone, or the target cannot be written.
    """
    if target.suffix not in (".safetensors", ".pth"):
        raise UserError(f"{target} would be of no known format; let its name end with .safetensors or .pth.")
    if target.exists() and not force:
        raise UserError(f"{target} exists; choose another name, or write over it with --force.")
    checkpoint = read_checkpoint(source)
    if target.exists() and target.samefile(source):
        raise UserError(f"{target} is the file to be converted; choose another name.")
    content = weights_in(checkpoint, str(source))
    prefix, tensors = _backbone(content.tensors, prefix, str(source))
    provenance = {
        "source": source.name,
        "source_sha256": sha256_of(source),
        "container": content.container,
        "averaged": content.averaged,
        "prefix": prefix,
        "tensors": len(tensors),
        "tensors_dropped": len(content.tensors) - len(tensors),
        "fvnet_mm": fvnet_mm.__version__,
        **_training(checkpoint.get("meta")),
    }
    with written_or_said(str(target)):
        _write(target, tensors, provenance)
    return Conversion(target, sha256_of(target), sum(tensor.numel() for tensor in tensors.values()), provenance)


def _backbone(tensors: dict[str, torch.Tensor], prefix: str | None, source: str) -> tuple[str, dict[str, torch.Tensor]]:
    """What was taken off the names of a backbone's tensors, and the tensors."""
    if prefix:
        prefix = prefix if prefix.endswith(".") else f"{prefix}."
    else:
        known = wrapper_prefixes(tensors)
        common = [found for found in known if all(name.startswith(found) for name in tensors)]
        prefix = next((found for found in known if found.endswith("backbone.")), common[-1])
    under = under_prefix(tensors, prefix)
    if not under:
        raise UserError(f"{source} has no tensors under --prefix {prefix}; it has {some_of(tensors)}.")
    if not prefix.endswith("backbone."):
        under = {name: tensor for name, tensor in under.items() if name.split(".")[0] not in CLASSIFIERS}
    if not under:
        raise UserError(f"{source} holds a classifier and no backbone: {some_of(tensors)}.")
    # Copies of their own: a view would bring the whole of what it is a view of, and safetensors refuses shared memory.
    return prefix, {name: tensor.detach().clone().contiguous() for name, tensor in under.items()}


def _training(meta: object) -> dict[str, str | int]:
    """What mmengine notes of a training: the config's name and the epochs, without dates and paths."""
    if not isinstance(meta, Mapping):
        return {}
    known: dict[str, str | int] = {}
    if isinstance(name := meta.get("experiment_name"), str):
        known["config_name"] = _TIMESTAMP.sub("", name)
    if isinstance(epoch := meta.get("epoch"), int) and epoch > 0:
        known["epoch"] = epoch
    return known


def _write(target: Path, tensors: dict[str, torch.Tensor], provenance: Mapping[str, str | int | bool]) -> None:
    with replacing(target) as temporary:
        if target.suffix == ".pth":
            with temporary.open("wb") as file:  # given a name, torch.save writes it into the file
                torch.save({"state_dict": tensors, "meta": dict(provenance)}, file)
        else:
            # One entry only: safetensors writes several in an order of chance.
            save_file(tensors, temporary, {"provenance": json.dumps(provenance)})
