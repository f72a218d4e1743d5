"""The schema of ``run.json``; docs/record.md explains it to readers of the files.

Paths are relative to the record's folder. Accuracies are in percent. Unknown values are None, never invented.
"""

from datetime import datetime
from typing import Literal

from pydantic import Field

from fvnet_mm.records.parts import Number, Part
from fvnet_mm.records.protocol import Protocol

SCHEMA_VERSION = 1
"""Version that is written, the first one; newer ones are refused (see :mod:`fvnet_mm.records.reading`)."""

Task = Literal["detection", "instance_segmentation", "semantic_segmentation", "classification"]


class Config(Part):
    """The config that was run: its name (``retinanet_fvnet_s_coco``), the file beside the record, and its digest."""

    name: str
    file: str | None = None
    sha256: str | None = None


class Backbone(Part):
    """The trunk: what it is called, and what makes it.

    Attributes:
        name: Of its description, or of its class where it has none.
        type: Its class.
        arguments: Of the class.
        source_sha256: Of the class's source, where it is neither the suite's nor an installed library's: those are
            told by commit and version. None for theirs, and in older records.
    """

    name: str
    type: str | None = None
    arguments: dict[str, object] = Field(default_factory=dict)
    source_sha256: str | None = None


class Weights(Part):
    """What a part of the model started from.

    Attributes:
        part: Where in the model, such as 'backbone'; empty for the whole.
        source: Path or URL as the config names it.
        sha256: Of the file.
        share: Share of the part's values that the file filled, in [0, 1].
        distilled: Whether a teacher took part in the pretraining; None where nobody says.
    """

    part: str
    source: str
    sha256: str | None = None
    share: Number | None = None
    distilled: bool | None = None


class Split(Part):
    """A split of the data: number of images and of objects (detection), and the fingerprint of its files."""

    images: int
    objects: int | None = None
    fingerprint: str | None = None


class Data(Part):
    """The data: 'demo' or the folder's name, its classes, and its splits; a test has no training split."""

    label: str
    classes: tuple[str, ...]
    train: Split | None = None
    val: Split | None = None


class Complexity(Part):
    """Parameters and MACs of the model's parts (backbone, neck, heads), MACs at an image of (height, width)."""

    parameters: dict[str, int]
    macs: dict[str, int] = Field(default_factory=dict)
    shape: tuple[int, int] | None = None

    @property
    def total_parameters(self) -> int:
        """Of all parts."""
        return sum(self.parameters.values())

    @property
    def total_macs(self) -> int | None:
        """Of all parts; None if they were not counted."""
        return sum(self.macs.values()) if self.macs else None


class Environment(Part):
    """Where it ran: versions of the libraries, the device, the number of processes, how the batch of an optimizer step
    was made up of them (images of one in a forward pass, and passes a step), the state of the repository, and whether
    convolutions in float32 were computed in TensorFloat-32, as GPUs do from Ampere on unless PyTorch is told otherwise.
    """

    versions: dict[str, str] = Field(default_factory=dict)
    device: str | None = None
    world_size: int | None = None
    images_per_device: int | None = None
    accumulation: int | None = None
    threads: int | None = None
    tf32: bool | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None


class Times(Part):
    """When it began and was last written (UTC), seconds of training and of evaluation, and the training's peak
    memory on a GPU in bytes."""

    started: datetime | None = None
    updated: datetime | None = None
    training_seconds: Number | None = None
    evaluation_seconds: Number | None = None
    peak_memory: int | None = None


class Evaluation(Part):
    """Metrics after so many epochs or optimizer steps, in percent, such as {'AP': 31.2, 'AP50': 50.1}."""

    step: int
    metrics: dict[str, Number | None]


class ClassResult(Part):
    """Metrics of one class, in percent, such as {'AP': 12.0} or {'IoU': 40.0, 'Acc': 55.1}; None where undefined."""

    name: str
    metrics: dict[str, Number | None]


class Predictions(Part):
    """The predictions of the last evaluation, kept beside the record.

    Attributes:
        kind: 'coco_boxes' or 'coco_masks' (result files), 'label_maps' (a folder of PNG files, 1 is the first
            class), 'classes' (a JSON list of file, label, prediction and score).
        path: File or folder.
        ground_truth: Annotation file (detection) or folder of label maps, as an absolute path where it was read.
        sha256: Of the file, or of a folder's files in the order of their names.
    """

    kind: Literal["coco_boxes", "coco_masks", "label_maps", "classes"]
    path: str
    ground_truth: str | None = None
    sha256: str | None = None


class Result(Part):
    """The last evaluation in full.

    Attributes:
        metrics: In percent. AP, AP50, AP75, AP_S, AP_M, AP_L, AR_1, AR_10, AR_100, AR_S ... of boxes, the same
            with the prefix 'mask ' of masks; mIoU, mAcc, aAcc; 'top-1', 'top-5'.
        per_class: In the order of the classes.
        confusion: Of segmentors: pixels of class i (row) that were taken for class j.
        predictions: What the metrics were computed from.
    """

    metrics: dict[str, Number | None]
    per_class: tuple[ClassResult, ...] = ()
    confusion: tuple[tuple[int, ...], ...] | None = None
    predictions: tuple[Predictions, ...] = ()


class RunRecord(Part):
    """One run.

    Attributes:
        schema_version: Of this schema.
        origin: 'train' or 'test' by the suite's tools, 'imported' from the log of another tool.
        status: 'running' until the run's end; a killed run stays so.
        task: What the model does.
        framework: As in the protocol.
        command: Command line, word by word.
        seed: Of everything random.
        checkpoint: File name of the weights that the result is of, in the record's folder or as given to the test; None
            where they were not saved.
        checkpoint_sha256: Of that file.
        speed: Not written; older files have it, without a value. Speeds are in records of benchmarks.
        evaluations: All of the run, the oldest first.
        result: None until the first evaluation.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    origin: Literal["train", "test", "imported"]
    status: Literal["running", "finished"]
    task: Task
    framework: str
    config: Config
    backbone: Backbone
    command: tuple[str, ...] = ()
    seed: int | None = None
    protocol: Protocol
    data: Data | None = None
    weights: tuple[Weights, ...] = ()
    checkpoint: str | None = None
    checkpoint_sha256: str | None = None
    complexity: Complexity | None = None
    environment: Environment = Field(default_factory=Environment)
    times: Times = Field(default_factory=Times)
    speed: None = Field(default=None, exclude=True)
    unit: Literal["epoch", "step"] = "epoch"
    evaluations: tuple[Evaluation, ...] = ()
    result: Result | None = None
