"""fvnet_mm: what a lightweight backbone is worth as the trunk of a detector or a segmentor.

Importing the package makes mmcv's operators available where mmcv has no compiled ones, and mmpretrain importable beside
today's transformers; nothing else happens. The parts that configs name register themselves when ``custom_imports``
imports them (``fvnet_mm.backbones``, ``fvnet_mm.engine``).
"""

from fvnet_mm.multimodal import install_dependency_finder
from fvnet_mm.ops import install_fallback

__version__ = "0.1.0"

install_fallback()
install_dependency_finder()
