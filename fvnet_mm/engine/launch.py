"""The processes of a distributed run: over NCCL on GPUs, over gloo where there are none."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, init_dist
from mmengine.registry import MODEL_WRAPPERS
from torch.distributed.elastic.multiprocessing.errors import get_error_handler
from torch.nn.parallel import DistributedDataParallel

from fvnet_mm.engine.config_file import replace_sync_batch_norm
from fvnet_mm.errors import UserError

_LOST = re.compile(r"closed by peer|reset by peer|Broken pipe|refused|remote process exited|NCCL communicator")
"""What gloo and NCCL say when another process is gone."""

_PORT = "29500"
"""What torch and mmengine take where nobody says."""


def start_processes(cfg: Config) -> None:
    """Joins the process group of a distributed run, as ``cfg.launcher`` says.

    Raises:
        UserError: The launcher has not started this process, or the others cannot be reached.
    """
    if cfg.launcher == "none":
        return
    settings = dict((cfg.get("env_cfg") or {}).get("dist_cfg") or {})
    try:
        if torch.cuda.is_available():
            init_dist(cfg.launcher, **settings)
            return
        cfg.model_wrapper_cfg = _wrapper_on_cpus(cfg)
        if cfg.launcher == "slurm":
            os.environ.update(_as_torch_has_it())
        torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=settings.get("timeout", 1800)))
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        raise UserError(
            f"--launcher {cfg.launcher} cannot start: {error}; start the processes with tools/dist_train.sh or "
            "tools/slurm_train.sh (or torchrun, srun), and if the port is in use choose another with PORT or "
            "MASTER_PORT."
        ) from error


def _wrapper_on_cpus(cfg: Config) -> dict[str, object]:
    """The config's own wrapper of the model, or mmengine's default but for the GPU that it names."""
    default = dict(
        type="MMDistributedDataParallel",
        broadcast_buffers=False,
        find_unused_parameters=cfg.get("find_unused_parameters", False),
    )
    wrapper = dict(cfg.get("model_wrapper_cfg") or default)
    wrapper.setdefault("type", default["type"])
    kind = MODEL_WRAPPERS.get(wrapper["type"])
    if isinstance(kind, type) and issubclass(kind, DistributedDataParallel):
        wrapper["device_ids"] = None
    return wrapper


def _as_torch_has_it() -> dict[str, str]:
    """What Slurm says of a process, in torch's names; mmengine does the same, but only for GPUs."""
    tasks, nodes = os.environ["SLURM_NTASKS"], os.environ["SLURM_NODELIST"]
    if "MASTER_ADDR" in os.environ:
        address = os.environ["MASTER_ADDR"]
    else:
        names = subprocess.run(["scontrol", "show", "hostname", nodes], capture_output=True, text=True, check=False)
        if names.returncode or not names.stdout.strip():
            raise OSError(f"scontrol does not know the nodes {nodes}")
        address = names.stdout.split()[0]
    return dict(
        MASTER_ADDR=address,
        MASTER_PORT=os.environ.get("MASTER_PORT", _PORT),
        WORLD_SIZE=tasks,
        RANK=os.environ["SLURM_PROCID"],
        LOCAL_RANK=os.environ["SLURM_LOCALID"],
    )


@contextmanager
def reported_to_launcher() -> Iterator[None]:
    """Leaves an exception of this process where torchrun finds it, so that its closing lines say which and why.

    Raises:
        UserError: In place of the error of a connection that broke since another process has ended.
    """
    handler = get_error_handler()
    handler.initialize()
    try:
        yield
    except Exception as error:
        handler.record_exception(error)
        if isinstance(error, RuntimeError) and get_world_size() > 1 and _LOST.search(str(error)):
            raise UserError(
                f"another process of this run has ended or cannot be reached ({error!s:.160}); it, or the launcher, "
                "says which and why."
            ) from error
        raise


def settle_norms(cfg: Config) -> str | None:
    """Makes synchronised norms work on what a run has; returns what to say about it.

    On one device SyncBN is BN, and between CPUs, for which torch has none, the suite's own.
    """
    if get_world_size() > 1:
        if torch.cuda.is_available() or not replace_sync_batch_norm(cfg.model, "ProcessSyncBN"):
            return None
        return "SyncBN over the processes on CPUs"
    return "SyncBN is BN here: one device computes a batch" if replace_sync_batch_norm(cfg.model, "BN") else None
