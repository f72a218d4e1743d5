"""Which of a benchmark's models is a run's, told from other models and from other versions of the same trunk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from fvnet_mm.errors import UserError
from fvnet_mm.records import Backbone, RunRecord
from fvnet_mm.records.benchmark import Model
from fvnet_mm.report.leaderboard.collecting import FoundBenchmark
from fvnet_mm.report.leaderboard.rows import trunk_parameters

_STAGES = "out_indices"

_OF_TRAINING = (_STAGES, "frozen_stages", "norm_eval", "with_cp", "drop_path_rate")
"""Arguments that don't make it another trunk: which stages are read is the framework's choice."""


def is_of(model: Model, run: RunRecord) -> bool:
    """Whether a benchmark's model is a run's, or a trunk alone the run's trunk, in the version that the run had."""
    return _is_called(model, run) and _other_version(model, run) is None


def version_problems(runs: Iterable[RunRecord], benchmarks: Sequence[FoundBenchmark]) -> list[str]:
    """In one sentence each, the models of benchmarks that are called like a run's and are of another version.

    Benchmarks of training steps have no speeds of rows, and are not looked at.
    """
    runs = list(runs)
    found = set()
    for benchmark in benchmarks:
        for model in benchmark.record.models if not benchmark.record.conditions.training else ():
            reasons = {_other_version(model, run) for run in runs if _is_called(model, run)} - {None}
            found |= {f"{benchmark.name}: {reason}" for reason in reasons}
    return sorted(found)


def _is_called(model: Model, run: RunRecord) -> bool:
    """Whether a model has a run's name and description, whatever was built from them."""
    named = model.name == run.config.name if model.whole else model.backbone.name == run.backbone.name
    if model.whole and run.complexity is not None:  # a command line can make neck and heads others than the config's
        named &= _around_trunk(model.parameters) == _around_trunk(run.complexity.parameters)
    return named and _trunk(model.backbone) == _trunk(run.backbone)


def _around_trunk(parameters: Mapping[str, int]) -> dict[str, int]:
    return {part: count for part, count in parameters.items() if part != "backbone"}


def _trunk(backbone: Backbone) -> tuple[str | None, dict[str, object]]:
    return backbone.type, {key: value for key, value in backbone.arguments.items() if key not in _OF_TRAINING}


def _other_version(model: Model, run: RunRecord) -> str | None:
    """What says that a model of a run's name was built otherwise: the code of its trunk, where both know a digest of
    it, or the parameters; None if they agree.

    An older benchmark says only how many a trunk has after it was fused, and it has no fewer before that.
    """
    codes = model.backbone.source_sha256, run.backbone.source_sha256
    if None not in codes and codes[0] != codes[1]:
        return (
            f"its {model.name} is of other code than the runs' (SHA-256 {codes[0][:8]}, not {codes[1][:8]}), so its "
            "speeds are left out; measure it again."
        )
    known = model.trained is not None
    timed, counted = model.trained if known else model.parameters.get("backbone"), trunk_parameters(run)
    if None in (timed, counted) or _agree(timed, counted, known):
        return None
    try:
        expected = counted + _surplus(model.backbone, run.backbone)
    except UserError as error:
        return (
            f"its {model.name} has {timed:,} parameters in the trunk and the runs' has {counted:,}, and nothing tells "
            f"whether the stages that are read make the difference, so its speeds are left out: {error}"
        )
    if _agree(timed, expected, known):
        return None
    return (
        f"its {model.name} is another version than the runs' ({'' if known else 'at least '}{timed:,} parameters of "
        f"the trunk as it is trained, not {expected:,}), so its speeds are left out; measure it again."
    )


def _agree(timed: int, expected: int, known: bool) -> bool:
    return timed == expected if known else timed <= expected


def _surplus(timed: Backbone, trained: Backbone) -> int:
    """How many parameters a trunk has more with the stages read that were timed than with those of the training.

    They are counted here, where both are of one version: a trunk has an output norm for every stage that is read, and
    lacks the stages behind the last.

    Raises:
        UserError: The trunk cannot be built.
    """
    if timed.arguments.get(_STAGES) == trained.arguments.get(_STAGES):
        return 0
    return _count(_config(timed)) - _count(_config(trained))


def _config(trunk: Backbone) -> str:
    """The config of a trunk, in JSON."""
    stages = {key: value for key, value in trunk.arguments.items() if key == _STAGES}
    return json.dumps({"type": trunk.type, **_trunk(trunk)[1], **stages}, sort_keys=True)


@cache
def _count(trunk: str) -> int:
    from mmengine.config import ConfigDict  # these take seconds, and only trunks with output norms need them

    import fvnet_mm.backbones  # noqa: F401  (registers them)
    from fvnet_mm.bench.complexity import count_parameters
    from fvnet_mm.engine.quiet import without_remarks
    from fvnet_mm.engine.runner import build_model

    with without_remarks():
        return count_parameters(build_model(ConfigDict(json.loads(trunk))))
