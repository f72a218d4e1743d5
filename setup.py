"""Packaging of fvnet_mm: ``pip install -e .`` brings everything from plain wheels, without a compiler."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "fvnet_mm/__init__.py").read_text()).group(1)

setup(
    name="fvnet_mm",
    version=VERSION,
    description="What a lightweight backbone is worth as the trunk of a detector or a segmentor",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["fvnet_mm", "fvnet_mm.*"]),
    package_data={"fvnet_mm.report": ["published.csv"], "fvnet_mm.report.leaderboard": ["templates/*"]},
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.6",  # weights_only=True is the default from here on, also inside the libraries below
        "torchvision>=0.21",  # the torchvision of torch 2.6; serves mmcv's operators
        "mmengine>=0.10.7",
        "mmcv-lite>=2.1,<2.2",  # mmdet 3.3 refuses mmcv 2.2; compiled mmcv 2.1 takes its place where it is present
        "mmdet>=3.3,<4",
        "mmsegmentation>=1.2.2,<2",
        "mmpretrain>=1.2,<2",
        "pycocotools>=2.0.8",  # the first with wheels for numpy 2
        "faster-coco-eval>=1.8,<2",  # COCO's evaluation in C++, equal to pycocotools; 1.8 takes empty results
        "timm>=1.0.20",
        "setuptools<82",  # mmengine resolves 'mmdet::' bases through pkg_resources, which 82 removed
        "ftfy",  # mmsegmentation imports ftfy and regex and does not say so
        "regex",
        "safetensors>=0.4",  # weights of timm, and what tools/convert_weights.py writes
        "filelock>=3",  # one download on a node
        "pydantic>=2.7",  # the schema of run records and suites
        "PyYAML>=6",  # suites
        "submitit>=1.5.2",  # runs a suite's jobs, here or through Slurm; earlier ones need pkg_resources
        "plotly>=6",  # brings the script that draws the leaderboard's page
        "itables>=2.4",  # brings the script that sorts and filters its tables
        "jinja2>=3.1",
        "scipy>=1.11",  # Student's t
        "rich>=13",
        "matplotlib>=3.8",
        "opencv-python",
        "shapely>=2",
        "platformdirs>=4",
        "Pillow>=10",
        "numpy",
        "packaging",
    ],
    extras_require={
        "test": ["pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.100", "playwright>=1.45", "ruff>=0.9"],
    },
)
