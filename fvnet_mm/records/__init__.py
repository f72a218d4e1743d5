"""Run records: what ``run.json`` in a work dir says of a run. Needs neither torch nor the OpenMMLab libraries."""

from fvnet_mm.records.protocol import Protocol
from fvnet_mm.records.schema import (
    SCHEMA_VERSION,
    Backbone,
    ClassResult,
    Complexity,
    Config,
    Data,
    Environment,
    Evaluation,
    Predictions,
    Result,
    RunRecord,
    Split,
    Times,
    Weights,
)

__all__ = [
    "SCHEMA_VERSION",
    "Backbone",
    "ClassResult",
    "Complexity",
    "Config",
    "Data",
    "Environment",
    "Evaluation",
    "Predictions",
    "Protocol",
    "Result",
    "RunRecord",
    "Split",
    "Times",
    "Weights",
]
