"""What differs between detection, segmentation and classification: data, demo, predictions."""

from mmengine.config import Config

from fvnet_mm.engine.tasks.base import DataSource, DataSplit, Task
from fvnet_mm.engine.tasks.classification import Classification
from fvnet_mm.engine.tasks.detection import Detection
from fvnet_mm.engine.tasks.segmentation import Segmentation
from fvnet_mm.errors import UserError

__all__ = ["Classification", "DataSource", "DataSplit", "Detection", "Segmentation", "Task", "task_of"]

_BY_SCOPE = {"mmdet": Detection, "mmseg": Segmentation, "mmpretrain": Classification}


def task_of(cfg: Config) -> Task:
    """The task of a config, told by the library whose registry it uses first.

    Raises:
        UserError: It is none of the three.
    """
    scope = cfg.get("default_scope")
    if scope not in _BY_SCOPE:
        raise UserError(f"{cfg.filename}: default_scope is {scope!r}; it must be one of {', '.join(_BY_SCOPE)}.")
    return _BY_SCOPE[scope]()
