"""The versions that the suite is tested with."""

import platform
from importlib.metadata import distributions

from packaging.version import Version

TESTED = {
    "python": ("3.10", "3.12"),
    "torch": ("2.6", "2.15"),
    "mmengine": ("0.10.7", "0.10.7"),
    "mmdet": ("3.3", "3.3"),
    "mmsegmentation": ("1.2.2", "1.2.2"),
    "mmpretrain": ("1.2", "1.2"),
}
"""First and last tested release of each; what the last does not say (the 7 of 3.12.7) may be anything."""


def untested_versions() -> list[str]:
    """What is installed outside the tested range, a phrase each, such as 'torch 2.5.1 (tested: 2.6 to 2.15)'."""
    installed = {distribution.name.lower(): distribution.version for distribution in distributions()}
    installed["python"] = platform.python_version()
    return [
        f"{name} {installed[name]} (tested: {first} to {last})"
        for name, (first, last) in TESTED.items()
        if name in installed and not is_tested(installed[name], first, last)
    ]


def is_tested(version: str, first: str, last: str) -> bool:
    """Whether ``first <= version <= last``, compared only as far as ``last`` goes."""
    release = Version(version).release
    newest = Version(last).release
    return Version(first).release <= release and release[: len(newest)] <= newest
