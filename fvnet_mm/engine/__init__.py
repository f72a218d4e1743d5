"""Running: configs, checks, checkpoints, hooks. Importing it registers what configs name."""

from fvnet_mm.engine.averaging import StepEMAHook
from fvnet_mm.engine.checkpoint import AtomicBackend
from fvnet_mm.engine.coco_dataset import IndexedCocoDataset
from fvnet_mm.engine.coco_metric import FullCocoMetric
from fvnet_mm.engine.distillation import DistilledImageClassifier, DistilledLinearClsHead
from fvnet_mm.engine.epochs import ResumableEpochLoop
from fvnet_mm.engine.hooks import EvaluationHistoryHook, ProgressHook, ReproducibleEpochHook, seed_worker
from fvnet_mm.engine.iou_metric import ConfusionIoUMetric
from fvnet_mm.engine.iteration_loop import NumberedBatches, ResumableIterLoop
from fvnet_mm.engine.prediction_metric import SavedPredictions
from fvnet_mm.engine.resident import ResidentDataset, hand_on
from fvnet_mm.engine.runner import SuiteRunner
from fvnet_mm.engine.saving import RunCheckpointHook
from fvnet_mm.engine.sync_norm import ProcessSyncBN
from fvnet_mm.engine.weights import PretrainedWeights

__all__ = [
    "AtomicBackend",
    "ConfusionIoUMetric",
    "DistilledImageClassifier",
    "DistilledLinearClsHead",
    "EvaluationHistoryHook",
    "FullCocoMetric",
    "IndexedCocoDataset",
    "NumberedBatches",
    "PretrainedWeights",
    "ProcessSyncBN",
    "ProgressHook",
    "ReproducibleEpochHook",
    "ResidentDataset",
    "ResumableEpochLoop",
    "ResumableIterLoop",
    "RunCheckpointHook",
    "SavedPredictions",
    "StepEMAHook",
    "SuiteRunner",
    "hand_on",
    "seed_worker",
]
