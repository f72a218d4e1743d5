"""The device of a benchmark: choosing, waiting for, and describing it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch

from fvnet_mm.engine.run_facts import processor_name
from fvnet_mm.errors import UserError
from fvnet_mm.records.benchmark import Clock, Conditions

_THROTTLING = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
}
"""Bits of NVML's reasons for a low clock that are no choice of the user's (``nvmlClocksEventReason*``)."""

_COPY_BYTES = 128 * 2**20
"""Larger than any cache."""


def check_device(backend: str, precision: str) -> None:
    """Raises a UserError unless torch has that device ('cpu', 'cuda' or 'mps'), and the device that precision."""
    if backend == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda needs a CUDA device and torch sees none; use --device cpu.")
    if backend == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps needs an Apple GPU and torch sees none; use --device cpu.")
    if backend == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(f"--precision bf16 is not supported by {torch.cuda.get_device_name()}; use fp16 or float32.")


def set_up(conditions: Conditions) -> None:
    """Puts this process under the conditions: threads, TF32, and cuDNN's search for the fastest algorithm."""
    torch.set_num_threads(conditions.threads)
    torch.backends.cudnn.allow_tf32 = conditions.tf32
    torch.backends.cuda.matmul.allow_tf32 = conditions.tf32
    torch.backends.cudnn.benchmark = True


def waiter(backend: str) -> Callable[[], None]:
    """What waits until the device has done all that it was given."""
    return {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize, "cpu": lambda: None}[backend]


def device_name(backend: str) -> str:
    """The GPU's or CPU's name."""
    if backend == "cuda":
        return torch.cuda.get_device_name()
    return f"GPU of {processor_name()}" if backend == "mps" else processor_name()


def driver(backend: str) -> str | None:
    """Version of the NVIDIA driver; None on another device, or without nvidia-smi."""
    answer = _nvidia_smi("driver_version") if backend == "cuda" else None
    return answer and answer[0]


def read_clock(backend: str) -> Clock:
    """Clock of the GPU, or of the first core, as the system states it now; empty where it does not."""
    if backend == "cpu":
        return Clock(mhz=_cpu_mhz())
    answer = _nvidia_smi("clocks.sm,clocks_throttle_reasons.active") if backend == "cuda" else None
    if answer is None:
        return Clock()
    clock, reasons = answer
    throttled = None
    if reasons.startswith("0x"):
        throttled = tuple(name for bit, name in _THROTTLING.items() if int(reasons, 16) & bit)
    return Clock(mhz=float(clock) if clock.isdecimal() else None, throttled=throttled)


def bandwidth(backend: str) -> float:
    """Bytes a second that copying a tensor larger than caches reads and writes: the best of five copies."""
    source = torch.ones(_COPY_BYTES // 4, device=backend)
    target = torch.empty_like(source)
    wait = waiter(backend)
    fastest = float("inf")
    for _ in range(5):
        wait()
        began = time.perf_counter()
        target.copy_(source)
        wait()
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * _COPY_BYTES / fastest


def _cpu_mhz() -> float | None:
    """Of the first core."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not on Linux
        return None
    stated = next((line.partition(":")[2] for line in lines if line.startswith("cpu MHz")), None)
    return float(stated) if stated is not None else None


def _nvidia_smi(query: str) -> list[str] | None:
    # By its UUID: torch counts visible devices, nvidia-smi all.
    words = ["nvidia-smi", f"--id=GPU-{torch.cuda.get_device_properties().uuid}", f"--query-gpu={query}"]
    try:
        done = subprocess.run([*words, "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return [field.strip() for field in done.stdout.strip().split(",")]
