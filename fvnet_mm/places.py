"""Where the repository's own files are."""

from pathlib import Path

ROOT = Path(__file__).parents[1]

CONFIGS = ROOT / "configs"

DESCRIPTIONS = Path("_base_", "backbones")
"""Folder of the backbone descriptions, from a folder of configs."""
