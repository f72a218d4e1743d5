"""mmcv's operators for an mmcv without compiled ones, served by PyTorch and torchvision.

mmcv keeps its operators in the extension module ``mmcv._ext``, which ``mmcv-lite`` does not have and without
which ``import mmdet.models`` fails. :func:`install_fallback` puts an import hook behind every other finder:
where compiled operators exist they are found first and the hook never answers. Importing this package imports
nothing but the standard library; PyTorch comes in when somebody imports ``mmcv._ext``.
"""

from fvnet_mm.ops.finder import FallbackFinder, has_compiled_ops, install_fallback

__all__ = ["FallbackFinder", "has_compiled_ops", "install_fallback"]
