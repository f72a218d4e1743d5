"""Reading and writing checkpoint files: written whole or not at all, read without running anybody's code.

A checkpoint is somebody else's file. It is read with ``weights_only=True`` always; what a checkpoint of
mmengine or timm holds besides tensors (a log history, the command line) is allow-listed by name below.
"""

import hashlib
import logging
import os
import pickle
import re
import zipfile
from argparse import Namespace
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import safetensors
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import CheckpointLoader
from torch import nn

from fvnet_mm.engine.download import locate
from fvnet_mm.errors import UserError
from fvnet_mm.files import replacing, sha256_of
from fvnet_mm.records.reading import RECORD, read_record

MapLocation = str | torch.device | Callable[[torch.Tensor, str], torch.Tensor] | None

_NUMBERED = re.compile(r"(?:epoch|iter)_(\d+)(?:_iter_(\d+))?\.pth")


_STATISTICS = ("min", "max", "current", "mean")


def _statistics_method(owner: type, name: str) -> Callable[..., float]:
    """What ``getattr`` means in a checkpoint: mmengine's log histories name their own statistics, nothing else.

    Raises:
        pickle.UnpicklingError: Any other attribute is asked for; the real ``getattr`` would open every door.
    """
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise pickle.UnpicklingError(f"GLOBAL builtins.getattr of {name}")
    return getattr(HistoryBuffer, name)


def _safe_globals() -> list[object]:
    """What training scripts save besides tensors and plain containers.

    With mmengine it is log histories in numpy arrays; timm and the many scripts after DeiT's save their arguments.
    """
    dtypes = {type(np.dtype(name)) for name in ("bool", "uint8", "int32", "int64", "float32", "float64")}
    reconstruct, _, _ = np.empty(0).__reduce__()
    scalar, _ = np.float64(0).__reduce__()
    names = [(_statistics_method, "builtins.getattr")]
    for package in ("numpy.core", "numpy._core"):  # up to numpy 1, and since numpy 2
        names += [(reconstruct, f"{package}.multiarray._reconstruct"), (scalar, f"{package}.multiarray.scalar")]
    return [Namespace, HistoryBuffer, np.ndarray, np.dtype, *dtypes, *names]


class AtomicBackend(LocalBackend):
    """mmengine's local storage, but a file is written whole or not at all, and is on the disk when it is there.

    Registered as ``'atomic'``: ``CheckpointHook(backend_args=dict(backend='atomic'))``.
    """

    def put(self, obj: bytes | BytesIO, filepath: str | Path) -> None:
        content, path = obj.getbuffer() if isinstance(obj, BytesIO) else obj, Path(filepath)
        digest = digest_file(path)
        # At no moment does the digest of one content stand beside another.
        digest.unlink(missing_ok=True)
        _write(path, content)
        if path.suffix == ".pth":
            _write(digest, f"{hashlib.sha256(content).hexdigest()}  {path.name}\n".encode())

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        self.put(obj.encode(encoding), filepath)


register_backend("atomic", AtomicBackend, force=True)


def _write(path: Path, content: bytes | memoryview) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def digest_file(path: Path) -> Path:
    """Where the SHA-256 of a checkpoint stands, as ``sha256sum --check`` reads it."""
    return path.with_name(f"{path.name}.sha256")


def remove_checkpoint(path: Path) -> None:
    """Removes a checkpoint with its digest."""
    digest_file(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def damage(path: Path) -> str | None:
    """Why a checkpoint file cannot be whole, or None if nothing speaks against it.

    The suite writes a digest beside each, which shows every altered bit. torch writes zip archives, whose directory
    stands at the end and whose members carry checksums: a file that was cut short or altered shows without being
    unpickled. Files of torch before 1.6, which tools for publishing still write, are bare pickles and show nothing
    until they are read.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if len(start) < 4:
        return "is cut short"
    if path.suffix == ".safetensors" or not start.startswith(b"PK"):  # its first bytes, a length, may read PK, too
        return None
    if not zipfile.is_zipfile(path):
        return "is cut short"
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        return f"is damaged ({error})"
    if member:
        return f"is damaged (checksum of {member})"
    digest = digest_file(path)
    if digest.is_file() and digest.read_text(encoding="utf-8", errors="replace")[:64] != sha256_of(path):
        return f"is not what {digest.name} says (altered since it was written)"
    return None


def read_checkpoint(path: str | Path, map_location: MapLocation = "cpu") -> dict[str, object]:
    """Reads a checkpoint file without running any code in it.

    A ``.safetensors`` file gives its tensors under ``state_dict`` and its strings under ``metadata``.

    Raises:
        UserError: The file is missing, cut short, damaged, not a checkpoint, or holds Python objects other than
            tensors, plain containers, mmengine's log history and command-line arguments.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist; give the path of a .pth or .safetensors file.")
    fault = damage(path)
    if fault:
        raise UserError(f"checkpoint {path} {fault}; take an earlier one or fetch the file again.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path, map_location)
    try:
        with torch.serialization.safe_globals(_safe_globals()):
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        if name is None:
            raise UserError(f"checkpoint {path} is damaged or was not written by torch.save.") from error
        raise UserError(
            f"checkpoint {path} holds Python code ({name[1]}), which is never run; "
            "ask its author for a file of plain tensors (a state_dict)."
        ) from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle makes torch's reader raise anything; what torch raises is in words
        reason = f" ({str(error).partition('. ')[0]})" if isinstance(error, RuntimeError) else ""
        raise UserError(f"checkpoint {path} is damaged or was not written by torch.save{reason}.") from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"checkpoint {path} holds a {type(checkpoint).__name__}; a dict of tensors is needed.")
    meta = checkpoint.get("meta")
    if isinstance(meta, dict):
        # mmengine executes this text as a Python config when it resumes; its own checkpoints never have the key.
        meta.pop("config", None)
    return checkpoint


def _read_safetensors(path: Path, map_location: MapLocation) -> dict[str, object]:
    device = str(map_location) if isinstance(map_location, str | torch.device) else "cpu"
    try:
        with safetensors.safe_open(path, framework="pt", device=device) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dict)
            return {"state_dict": tensors, "metadata": file.metadata() or {}}
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(
            f"checkpoint {path} is damaged or no safetensors file ({error}); fetch the file again."
        ) from error


@CheckpointLoader.register_scheme(prefixes=[*CheckpointLoader._schemes], force=True)
def load_from_anywhere(filename: str, map_location: MapLocation = None) -> dict[str, object]:
    """In place of all of mmengine's loaders, of paths, URLs, catalogues and storages, which unpickle what they find.

    Raises:
        UserError: There is no such checkpoint, it cannot be fetched, or :func:`read_checkpoint` refuses it.
    """
    return read_checkpoint(locate(filename), map_location)


def numbered_checkpoints(work_dir: Path) -> list[Path]:
    """The checkpoints of a run, newest first: ``epoch_3.pth``, ``epoch_2_iter_17.pth``, ``epoch_2.pth`` ..."""
    found = [(match, path) for path in work_dir.glob("*.pth") if (match := _NUMBERED.fullmatch(path.name))]
    return [
        path for match, path in sorted(found, key=lambda pair: (int(pair[0][1]), int(pair[0][2] or 0)), reverse=True)
    ]


def newest_checkpoint(work_dir: Path) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The newest intact checkpoint of a run, and the newer ones passed over with what is wrong with them."""
    passed_over: list[tuple[Path, str]] = []
    for path in numbered_checkpoints(work_dir):
        fault = damage(path)
        if fault is None:
            return path, passed_over
        passed_over.append((path, fault))
    return None, passed_over


def _training_in_words(checkpoint: str) -> str:
    """The config and the trunk that the record beside a checkpoint names: the end of a sentence, or nothing."""
    file = Path(checkpoint).expanduser().parent / RECORD
    try:
        record = read_record(file)
    except UserError:
        return ""
    if record.origin == "test":
        return ""
    return f" ({file} names the config {record.config.name} and the trunk {record.backbone.name})"


def check_coverage(model: nn.Module, state_dict: dict[str, torch.Tensor], source: str, complete: bool) -> float:
    """Says how much of a model a state dict fills, and returns this share of its values.

    Args:
        model: The model that the weights were loaded into.
        state_dict: The weights, names already stripped of wrappers' prefixes.
        source: Where they come from, for the message.
        complete: Whether every tensor of the model must be there.

    Raises:
        UserError: No tensor fits, or ``complete`` is asked and one is missing or of another shape.
    """
    own = model.state_dict()
    fitting = [name for name, tensor in own.items() if name in state_dict and state_dict[name].shape == tensor.shape]
    total = sum(tensor.numel() for tensor in own.values())
    share = sum(own[name].numel() for name in fitting) / max(total, 1)
    unused = len(state_dict.keys() - own.keys())
    counts = f"{len(fitting)} of {len(own)} tensors, {share:.1%} of the values"
    if not fitting and not complete:
        raise UserError(f"{source} fits none of the {len(own)} tensors of this model; it belongs to another one.")
    if complete and len(fitting) < len(own):
        missing = [name for name in own if name not in set(fitting)]
        raise UserError(
            f"{source} fits only {counts} of this model (first that does not: {missing[0]}); use the config, "
            f"--backbone, --cfg-options and --data that it was trained with{_training_in_words(source)}."
        )
    extra = f"; {unused} tensors of the file have no place in the model" if unused else ""
    print_log(f"loaded {counts} from {source}{extra}", "current", logging.WARNING if share < 1 else logging.INFO)
    return share
