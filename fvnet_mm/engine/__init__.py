"""Running: configs, checks, checkpoints, hooks. Importing it registers what configs name."""

from fvnet_mm.engine.checkpoint import AtomicBackend
from fvnet_mm.engine.hooks import EvaluationHistoryHook, ProgressHook, ReproducibleEpochHook, seed_worker
from fvnet_mm.engine.runner import SuiteRunner

__all__ = [
    "AtomicBackend",
    "EvaluationHistoryHook",
    "ProgressHook",
    "ReproducibleEpochHook",
    "SuiteRunner",
    "seed_worker",
]
