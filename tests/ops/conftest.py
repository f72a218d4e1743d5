"""What the operators' tests share. fvnet_mm is imported here, before any of them imports mmcv.ops."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import fvnet_mm  # noqa: F401  (installs the import hook)
from fvnet_mm.ops import has_compiled_ops


@pytest.fixture(scope="session", autouse=True)
def require_fallback() -> None:
    if has_compiled_ops():
        pytest.skip("compiled mmcv is installed, and the operators under test stand in for it only where it is not")


@pytest.fixture(scope="session")
def golden() -> Mapping[str, np.ndarray]:
    """Inputs and outputs of compiled mmcv 2.3.6, by name."""
    with np.load(Path(__file__).with_name("golden_mmcv_ops.npz")) as arrays:
        return dict(arrays)
