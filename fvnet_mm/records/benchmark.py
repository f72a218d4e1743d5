"""The schema of ``benchmark.json``; docs/benchmark.md explains it to readers of the file.

Paths, numbers and unknown values are as in :mod:`fvnet_mm.records.schema`. Sizes are (height, width).
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import AllowInfNan, AwareDatetime, Field, PositiveInt, model_validator

from fvnet_mm.records.parts import Number, Part
from fvnet_mm.records.schema import Backbone

SCHEMA_VERSION = 1

Positive = Annotated[float, Field(gt=0), AllowInfNan(False)]
What = Literal["trunk", "model", "predict"]
Precision = Literal["float32", "bf16", "fp16"]
Size = tuple[PositiveInt, PositiveInt]


class Conditions(Part):
    """What every time of a run was measured under; results of other conditions are never in one table.

    Attributes:
        device: Name of the GPU or CPU.
        backend: 'cpu', 'cuda' or 'mps'.
        driver: Of an NVIDIA GPU.
        torch: Version of torch.
        precision: 'float32', or autocast to 'bf16' or 'fp16'.
        tf32: Whether float32 convolutions and matrix products may use TensorFloat-32.
        channels_last: Memory format of weights and images.
        compiled: Whether the parts of the model ran through torch.compile.
        fused: Whether trunks were re-parameterised where they can be; every model says how.
        training: Whether a pass is a training step (forward, backward, optimizer).
        threads: Of torch, in a process.
        isolated: Whether every model had a process of its own.
    """

    device: str
    backend: Literal["cpu", "cuda", "mps"]
    driver: str | None = None
    torch: str
    precision: Precision
    tf32: bool
    channels_last: bool
    compiled: bool
    fused: bool
    training: bool
    threads: PositiveInt
    isolated: bool

    @property
    def fingerprint(self) -> str:
        """The first 12 hex digits of the SHA-256 of the fields."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def summary(self) -> str:
        """All of it in one line; what is not named is off."""
        parts = [
            self.device,
            f"driver {self.driver}" if self.driver is not None else None,
            f"torch {self.torch}",
            self.precision,
            "TF32" if self.tf32 else None,
            f"{self.threads} thread{'s' * (self.threads > 1)}",
            "channels last" if self.channels_last else None,
            "compiled" if self.compiled else None,
            "trunks fused" if self.fused else None,
            "training" if self.training else None,
            "a process per model" if self.isolated else None,
        ]
        return ", ".join(part for part in parts if part)


class Case(Part):
    """What a pass is: a part of the model on so many images of (height, width)."""

    what: What
    size: Size
    batch: PositiveInt

    def __str__(self) -> str:
        return f"{self.what} at {self.size[0]}x{self.size[1]}, batch {self.batch}"


class Clock(Part):
    """Clock of the device in MHz, and what held an NVIDIA GPU's back, such as 'thermal'; None where unreadable."""

    mhz: Number | None = None
    throttled: tuple[str, ...] | None = None


class Skipped(Part):
    """An operator that a counter has no count for: calls, and its share of all values that operators wrote."""

    operator: str
    calls: PositiveInt
    share: Number


class Counted(Part):
    """MACs of one image, by two counters, and what memory must at least carry.

    Attributes:
        what: 'trunk', or 'model' with the heads.
        size: Height and width of the image.
        macs: Of every part, by torch's counter.
        other_macs: Of all parts, by mmengine's; None where it fails, which ``other_failed`` explains.
        skipped: What torch's counter skipped, the greatest share first.
        ftfu_operations: Element-wise operations of Fluid Temporal Flow Units, from their equation.
        weight_bytes: Of the parameters that convolutions and matrix products read, in float32.
        activation_bytes: Of their inputs and outputs, each once, in float32.
    """

    what: Literal["trunk", "model"]
    size: Size
    macs: dict[str, int]
    other_macs: int | None = None
    other_failed: str | None = None
    skipped: tuple[Skipped, ...] = ()
    ftfu_operations: int = 0
    weight_bytes: int
    activation_bytes: int

    @property
    def total_macs(self) -> int:
        """Of all parts."""
        return sum(self.macs.values())

    @property
    def disagreement(self) -> float | None:
        """Distance of the counters, as a share of torch's."""
        if self.other_macs is None or not self.total_macs:
            return None
        return abs(self.other_macs - self.total_macs) / self.total_macs

    def floor_ms(self, batch: int, bandwidth: float, precision: Precision) -> float:
        """Least time in ms of a forward pass that reads and writes these bytes at so many bytes a second."""
        scale = 1.0 if precision == "float32" else 0.5
        return scale * (self.weight_bytes + batch * self.activation_bytes) / bandwidth * 1e3


class Model(Part):
    """A model of a run.

    Attributes:
        name: The config's or the trunk's.
        source: As the command line names it.
        whole: Whether it is a config's model, or a trunk alone.
        backbone: The trunk.
        parameters: Of the parts, as they were measured: of a fused trunk fewer than it is trained with.
        trained: Parameters of the trunk before it was fused, which tell versions of it apart; None in older records.
        fused: How the trunk was re-parameterised, or 'not fused'.
        counted: At every size, as it was measured.
    """

    name: str
    source: str
    whole: bool
    backbone: Backbone
    parameters: dict[str, int]
    trained: int | None = None
    fused: str
    counted: tuple[Counted, ...] = ()

    def counted_at(self, what: What, size: Size) -> Counted | None:
        """The counts of a case; what follows the network in a prediction isn't counted."""
        part = "trunk" if what == "trunk" else "model"
        return next((counted for counted in self.counted if (counted.what, counted.size) == (part, size)), None)


class Ratio(Part):
    """How many times as fast as the baseline, with the 95 % interval over the rounds; None from too few rounds."""

    value: Positive
    low: Positive | None = None
    high: Positive | None = None


class Times(Part):
    """Times of a pass in ms over ``n`` passes in ``rounds`` rounds, and why they are unsteady, if they are."""

    p50_ms: Positive
    p90_ms: Positive
    p99_ms: Positive
    mean_ms: Positive
    n: PositiveInt
    rounds: PositiveInt
    unsteady: tuple[str, ...] = ()


class Measurement(Part):
    """The times of one model in one case.

    Attributes:
        model: Its name.
        case: What a pass was.
        times: Of all passes.
        ratio: To the run's baseline; None where the baseline has no such case.
        round_ms: Median of every round's passes, from which the ratio can be computed again.
        peak_memory: Bytes that the model's weights and a pass took on an NVIDIA GPU; None elsewhere.
        before: Clock before the case's first round.
        after: Clock after its last.
    """

    model: str
    case: Case
    times: Times
    ratio: Ratio | None = None
    round_ms: tuple[Positive, ...]
    peak_memory: int | None = None
    before: Clock = Clock()
    after: Clock = Clock()

    @property
    def throughput(self) -> float:
        """Images a second."""
        return self.case.batch / self.times.mean_ms * 1e3


class BenchmarkRecord(Part):
    """One run of the benchmark.

    Attributes:
        schema_version: Of this schema.
        updated: When it was last written (UTC): after every case.
        finished: Whether all cases are there.
        command: Command line, word by word.
        conditions: What all was measured under.
        versions: Of the libraries.
        git_commit: Of this repository; None without one, and in records that were made before it was asked.
        git_dirty: Whether files had been changed since.
        bandwidth: Bytes a second that copying a large tensor read and wrote on the device, for the memory-bound floor.
        baseline: Name of the model that ratios are to.
        models: In the order of the rounds.
        measurements: Case by case, in the order of the models.
        notes: What the run had to change, such as a batch that did not fit.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    updated: AwareDatetime
    finished: bool
    command: tuple[str, ...] = ()
    conditions: Conditions
    versions: dict[str, str] = Field(default_factory=dict)
    git_commit: str | None = None
    git_dirty: bool | None = None
    bandwidth: Positive
    baseline: str
    models: tuple[Model, ...]
    measurements: tuple[Measurement, ...] = ()
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_names(self) -> BenchmarkRecord:
        unknown = ({self.baseline} | {entry.model for entry in self.measurements}) - {m.name for m in self.models}
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))} is named as baseline or measured, and not among the models")
        return self

    @property
    def cases(self) -> tuple[Case, ...]:
        """What was measured, each once, in order."""
        return tuple(dict.fromkeys(entry.case for entry in self.measurements))

    def floor_ms(self, entry: Measurement) -> float | None:
        """The memory-bound least time in ms of a pass; None of predictions and training steps, which do more."""
        counted = self.model(entry.model).counted_at(entry.case.what, entry.case.size)
        if counted is None or self.conditions.training or entry.case.what == "predict":
            return None
        return counted.floor_ms(entry.case.batch, self.bandwidth, self.conditions.precision)

    def model(self, name: str) -> Model:
        """The model of that name."""
        return next(model for model in self.models if model.name == name)

    def of_case(self, case: Case) -> tuple[Measurement, ...]:
        """The measurements of a case, in the order of the models."""
        return tuple(entry for entry in self.measurements if entry.case == case)
