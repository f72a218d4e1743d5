"""What a leaderboard is made of: tables of rows that may be ranked, each with where its numbers come from."""

from typing import Literal

from pydantic import Field

from fvnet_mm.records import Protocol
from fvnet_mm.records.parts import Number, Part


class Statistic(Part):
    """Mean and standard deviation (n - 1; None for one run) over the seeds of a row."""

    mean: Number
    std: Number | None = None
    n: int = 1


class Run(Part):
    """One run behind a row: what a reader needs to find and to repeat it.

    ``record`` is the path of its run.json, relative to the folder that was tabulated, ``metrics`` its result.
    """

    record: str
    origin: Literal["train", "test", "imported"]
    status: Literal["running", "finished"]
    seed: int | None
    metrics: dict[str, Number | None]
    checkpoint_sha256: str | None = None
    device: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    git_commit: str | None = None
    git_dirty: bool | None = None


class Row(Part):
    """One trunk under one protocol, over all its seeds; or one published result.

    Attributes:
        id: Stable name, such as 'retinanet-fvnet_s-0123abcd'; what ``compare`` and ``reproduce`` take.
        backbone: Name of the trunk.
        label: As a table prints it, such as 'FVNet-S'.
        provenance: 'measured', 'imported' (from another tool's log) or 'published' (by somebody else).
        metrics: By name, in percent.
        per_class: Class name -> metric name -> mean over the seeds.
        parameters: Of the trunk and of the whole model, in millions.
        macs: Of the trunk and of the whole model, in billions, at ``macs_shape``.
        macs_shape: (height, width).
        latency_ms: At batch 1.
        throughput: Images a second.
        speed_note: What of the model the two are of, at which image, on what.
        peak_memory_gb: Of training.
        pretraining: 'scratch', 'plain', 'distilled', 'unstated'.
        runs: Behind the row; none behind a published one.
        source: Of a published row.
        note: What a reader must know, such as a counting that differs.
    """

    id: str
    backbone: str
    label: str
    provenance: Literal["measured", "imported", "published"]
    metrics: dict[str, Statistic]
    per_class: dict[str, dict[str, Number | None]] = Field(default_factory=dict)
    parameters: tuple[Number | None, Number | None] = (None, None)
    macs: tuple[Number | None, Number | None] = (None, None)
    macs_shape: tuple[int, int] | None = None
    latency_ms: Number | None = None
    throughput: Number | None = None
    speed_note: str | None = None
    peak_memory_gb: Number | None = None
    pretraining: str | None = None
    runs: tuple[Run, ...] = ()
    source: str | None = None
    note: str | None = None


class Table(Part):
    """Rows of one framework on one data set under one protocol, pretraining included.

    ``rows`` are ordered by ``main_metric``, best first; ``published`` stands apart and is never ranked with them.
    ``images`` are the numbers of images for training and for validation. Speeds are of one set of conditions, which the
    rows name; ``speeds_left_out`` says which others are known. ``data_digest`` tells the data set from others of its
    name where the protocol does not, and ``run_digest`` a run that went on under another protocol than it began, which
    has a table of its own, from other such runs.
    """

    title: str
    framework: str
    data: str
    data_digest: str | None = None
    run_digest: str | None = None
    main_metric: str
    metric_names: tuple[str, ...]
    protocol: Protocol
    images: tuple[int | None, int | None] = (None, None)
    speeds_left_out: tuple[str, ...] = ()
    rows: tuple[Row, ...]
    published: tuple[Row, ...] = ()

    @property
    def identity(self) -> str:
        """What no other table of its framework has, the same whatever else is tabulated: letters, digits and '-'."""
        return "-".join(filter(None, (self.protocol.fingerprint, self.data_digest, self.run_digest)))


class Leaderboard(Part):
    """Everything that is written, in the order in which it is shown, and what could not be tabulated and why."""

    version: Literal[1] = 1
    suite_version: str
    tables: tuple[Table, ...]
    problems: tuple[str, ...] = ()
