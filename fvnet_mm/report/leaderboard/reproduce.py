"""What it takes to make a row again, and whether a second run says the same."""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fvnet_mm.errors import UserError
from fvnet_mm.records import RunRecord
from fvnet_mm.records.reading import RECORD, TEST_RECORD, read_record
from fvnet_mm.report.leaderboard.collecting import FoundRun, collect
from fvnet_mm.report.leaderboard.names import MAIN_METRICS, length_in_words, protocol_summary
from fvnet_mm.report.leaderboard.rows import group_runs, make_row, row_id, trunk_parameters

CONFIDENCE = 0.95
UNKNOWN = "unknown"


class NoSuchRow(UserError):
    """A name that no row of the folders has."""


@dataclass(frozen=True)
class Verdict:
    """Whether a repetition agrees with a row within the measured noise, and how that was told, in a sentence."""

    within: bool
    sentence: str


def find_row(name: str, folders: Sequence[Path], again: FoundRun | None = None) -> list[FoundRun]:
    """The runs behind a row, found again in the folders that were tabulated.

    Args:
        name: Id of the row, or the beginning of it that only one row has.
        folders: Work dirs, or folders that hold them.
        again: A repetition of the row, which is none of its runs although it may lie among them.

    Raises:
        NoSuchRow: No row is called so, or there is none in the folders.
        UserError: More than one row is called so, or it has no runs there.
    """
    try:
        found = collect(folders).runs
    except UserError as error:
        raise NoSuchRow(f"{str(error).removesuffix('.')}; --folders names other folders than these.") from error
    groups, conflicts = group_runs(run for run in found if again is None or run.file.resolve() != again.file)
    matches = [name] if name in groups else sorted(row for row in groups if row.startswith(name))
    if len(matches) == 1:
        return sorted(groups[matches[0]], key=lambda run: (run.record.seed or 0, run.name))
    places = ", ".join(map(str, folders))
    if name.startswith("published-"):
        raise UserError(f"{name} is a published row, which has no runs; the leaderboard names its source.")
    if matches:
        raise UserError(f"{len(matches)} rows below {places} begin with {name!r}: {', '.join(matches)}; name one.")
    if told := [problem for row, problems in conflicts.items() if row.startswith(name) for problem in problems]:
        raise UserError(told[0])
    if again is not None and row_id(again.record).startswith(name):
        raise UserError(f"{again.name} is the only run of its row below {places}; name the work dir of another run.")
    raise NoSuchRow(
        f"no row below {places} is called {name!r}; the column 'Row' of leaderboard.md has their names: "
        f"{', '.join(sorted(groups)) or 'none'}; --folders names the folders of others."
    )


def find_runs(names: str, folders: Sequence[Path]) -> list[FoundRun]:
    """The runs that a command line names: work dirs or records with commas between them, or a row.

    Raises:
        UserError: A record cannot be read, the runs are of several rows, or no row is called so.
    """
    whole = Path(names)  # a folder's own name may have a comma
    places = [whole] if whole.exists() else [Path(name) for name in names.split(",") if name]
    if not any(place.exists() for place in places):
        try:
            return find_row(names, folders)
        except NoSuchRow as error:
            raise UserError(f"{names} is neither a folder with a record nor a row: {error}") from error
    runs = [run_of(place) for place in places]
    rows = sorted({row_id(run.record) for run in runs})
    if len(rows) > 1:
        raise UserError(f"{names} are runs of {len(rows)} rows ({', '.join(rows)}); one side is the runs of one row.")
    return runs


def run_of(place: Path) -> FoundRun:
    """The run of a work dir, or of a record.

    Raises:
        UserError: There is no record, or it cannot be read.
    """
    file = place
    if place.is_dir():
        file = next((place / name for name in (RECORD, TEST_RECORD) if (place / name).is_file()), None)
        if file is None:
            raise UserError(f"{place} holds no {RECORD}; name the work dir of a run, or a row.")
    return FoundRun(file.as_posix(), file.resolve(), read_record(file))


def describe_row(runs: Sequence[FoundRun]) -> str:
    """Everything that decided the result of a row's runs: command, config, weights, data, versions and commit."""
    first = runs[0].record
    row = make_row(row_id(first), runs)
    main = row.metrics.get(MAIN_METRICS[first.task])
    protocol = ", ".join(filter(None, (length_in_words(first.protocol), protocol_summary(first.protocol))))
    spread = f" ± {main.std:.2f}" if main is not None and main.std is not None else ""
    result = f"{MAIN_METRICS[first.task]} {main.mean:.2f}{spread}" if main is not None else "no result yet"
    lines = [
        f"{row.id}: {row.label}, {result} over {len(runs)} run{'s' * (len(runs) != 1)}",
        f"  protocol    {first.protocol.fingerprint}: {protocol or UNKNOWN}",
    ]
    for run in runs:
        lines += ["", f"{run.name} ({run.record.origin}, {run.record.status}, seed {_known(run.record.seed)})"]
        lines += [f"  {name:<12}{text}" for name, text in _facts(run)]
    return "\n".join(lines)


def _facts(run: FoundRun) -> list[tuple[str, str]]:
    record = run.record
    environment = record.environment
    config = (run.folder / record.config.file) if record.config.file is not None else record.config.name
    commit = _known(environment.git_commit) + " with uncommitted changes" * bool(environment.git_dirty)
    versions = ", ".join(f"{name} {version}" for name, version in sorted(environment.versions.items()))
    return [
        ("command", shlex.join(record.command) or UNKNOWN),
        ("config", f"{config} (SHA-256 {_known(record.config.sha256)})"),
        *(("weights", weights) for weights in _weights(record)),
        ("data", _data(record)),
        ("commit", commit),
        ("versions", versions or UNKNOWN),
        ("device", f"{_known(environment.device)}, {_known(environment.world_size)} process(es)"),
        ("checkpoint", f"{_known(record.checkpoint)} (SHA-256 {_known(record.checkpoint_sha256)})"),
    ]


def _weights(record: RunRecord) -> Iterator[str]:
    if not record.weights:
        yield UNKNOWN if record.origin == "imported" else "none loaded"
    for weights in record.weights:
        share = "an unknown share" if weights.share is None else f"{weights.share:.1%}"
        part = weights.part or "the model"
        yield f"{share} of {part} from {weights.source} (SHA-256 {_known(weights.sha256)})"


def _data(record: RunRecord) -> str:
    if record.data is None:
        return UNKNOWN
    splits = [
        f"{name} {split.images} images ({_known(split.fingerprint)})"
        for name, split in (("training", record.data.train), ("validation", record.data.val))
        if split is not None
    ]
    return f"{record.data.label}: {', '.join(splits) or UNKNOWN}"


def _known(value: object) -> str:
    return UNKNOWN if value is None else str(value)


def judge(
    runs: Sequence[FoundRun], again: FoundRun, metric: str | None = None, ground_truth: Path | None = None
) -> Verdict:
    """Compares a repetition with a row.

    With two runs or more behind the row, the measured noise is their spread: the repetition should lie within the
    prediction interval of one more run (Student's t, n - 1 degrees of freedom). With one run, it is the noise of the
    validation images: the paired bootstrap of the two runs' saved predictions.

    Args:
        runs: Behind the row.
        again: The repetition.
        metric: By default the task's main one.
        ground_truth: Annotation file or folder of label maps, where it is no longer where the records say.

    Raises:
        UserError: The repetition is of another row (another protocol, trunk, code or initial weights), one of them
            has not finished or has no result, or the runs behind the row tell of no spread and predictions or ground
            truth are missing.
    """
    first = runs[0].record
    metric = metric or MAIN_METRICS[first.task]
    _check_same(first, again)
    if any(run.file == again.file for run in runs):
        raise UserError(f"{again.name} is one of the runs behind the row; name the work dir of another run.")
    if waiting := next((run for run in (*runs, again) if run.record.status != "finished"), None):
        raise UserError(f"{waiting.name} has not finished, so it says nothing of the whole training; resume it first.")
    values = [_value(run, metric) for run in runs]
    value = _value(again, metric)
    if len(set(values)) > 1:  # else no spread is known
        return _by_seeds(values, value, metric)
    return _by_images(runs[0], again, metric, ground_truth)


def _check_same(first: RunRecord, again: FoundRun) -> None:
    """All that tells rows apart, but for the names of configs: a repetition may have one of its own."""
    other = again.record
    differences = first.protocol.differences(other.protocol)
    reasons = [f"{name.replace('_', ' ')} {ours!r} and not {theirs!r}" for name, (ours, theirs) in differences.items()]
    if first.backbone != other.backbone:
        reasons.append("another trunk, other arguments of it or other code")
    ours, theirs = trunk_parameters(first), trunk_parameters(other)
    if ours != theirs:
        reasons.append(f"{_known(ours)} parameters in its trunk and not {_known(theirs)}")
    if _initial(first) != _initial(other):
        reasons.append("other initial weights")
    if first.framework != other.framework:
        reasons.append(f"framework {first.framework} and not {other.framework}")
    if reasons:
        raise UserError(f"{again.file} repeats another row than this one: the row has {'; '.join(reasons)}.")


def _initial(record: RunRecord) -> dict[str, str | None]:
    """By part of the model the digest of the weights that it started from."""
    return {weights.part: weights.sha256 for weights in record.weights}


def _value(run: FoundRun, metric: str) -> float:
    metrics = run.record.result.metrics if run.record.result is not None else {}
    if metrics.get(metric) is None:
        raise UserError(f"{run.file} has no {metric}; it has {', '.join(metrics) or 'no result yet'}.")
    return metrics[metric]


def _by_seeds(values: Sequence[float], value: float, metric: str) -> Verdict:
    low, high = prediction_interval(values)
    within = low <= value <= high
    return Verdict(
        within,
        f"{'within' if within else 'outside'} the measured noise: {metric} {value:.2f}, where one more run is expected "
        f"from {low:.2f} to {high:.2f} ({CONFIDENCE:.0%} prediction interval over {len(values)} runs).",
    )


def prediction_interval(values: Sequence[float]) -> tuple[float, float]:
    """Where one more value lies with a probability of 95 %, if all come from one normal distribution.

    mean ± t(0.975, n - 1) s sqrt(1 + 1 / n), s the standard deviation of the n >= 2 values.
    """
    from scipy.stats import t  # takes a while

    n = len(values)
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, n - 1))
    reach = quantile * statistics.stdev(values) * math.sqrt(1 + 1 / n)
    mean = statistics.fmean(values)
    return mean - reach, mean + reach


def _by_images(run: FoundRun, again: FoundRun, metric: str, ground_truth: Path | None) -> Verdict:
    """The paired bootstrap of two runs: within noise if the interval of their difference holds 0."""
    from fvnet_mm.report.statistics.compare import compare_seeds  # takes a while
    from fvnet_mm.report.statistics.runs import Run

    sides = [[Run(side.record, side.folder)] for side in (run, again)]
    comparison = compare_seeds(*sides, ground_truth=ground_truth)
    found = next((entry for entry in comparison.metrics if entry.name == metric), None)
    if found is None or found.interval is None:
        names = ", ".join(entry.name for entry in comparison.metrics if entry.interval is not None)
        others = f"they give some of {names}" if names else f"they are of {comparison.images} images, which are too few"
        raise UserError(f"the predictions of {run.file} give no interval of {metric}; {others}.")
    low, high = found.interval.low, found.interval.high
    within = low <= 0 <= high
    return Verdict(
        within,
        f"{'within' if within else 'outside'} the noise of the {comparison.images:,} validation images: {metric} "
        f"{found.difference:+.2f}, {CONFIDENCE:.0%} interval {low:+.2f} to {high:+.2f} ({comparison.resamples:,} "
        "paired resamples); the row has one run, so the noise of its training is not known.",
    )
