"""COCO's AP on resampled images, without matching again and without sorting again.

A resample in which image i occurs w[i] times is the data set with w[i] copies of the image, its objects and its
detections: the copies beside each other, the images in the order of their ids. This order settles how equal scores
are sorted, as pycocotools' sort is stable. AP is what ``COCOeval.accumulate`` computes of that data set:

- The detections of a class are sorted once. In a resample each stands for w copies, so that the counts of true
  positives and of detections so far are running sums of the weights.
- Only true positives are looked at, with the detections counted in between. Precision falls or stays at every other
  detection, so the envelope (the highest precision from here on) has its steps at true positives, and so has recall.
- Precision rises or stays over a run of true positives without a false one in between, so the envelope has one value
  for all of them: that of the last, which is the one computed. The w copies of one are part of its run. A run with
  w = 0 throughout adds a point that is in the list anyway (the detection before it), so the envelope remains the same.
- Where an image has several detections of one class with the same score, right ones and wrong ones, its copies
  alternate between them. There each copy is an entry of its own, present if w is at least its number.
- pycocotools samples the envelope at 101 recalls r / 100, each at the first detection with a recall of at least that.
  Recall is constant between runs; so AP is a sum over them: the envelope times the number of the 101 recalls that
  were reached there.

Work is proportional to runs x IoU thresholds x resamples. AP50 and AP75 come with AP; AP_S, AP_M and AP_L take together
about as long as AP, as every object and nearly every detection is in one of them.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
from scipy import sparse

from fvnet_mm.report.statistics.coco_matching import AREAS, IGNORED, TRUE, ClassMatches, CocoMatches
from fvnet_mm.report.statistics.resampling import Values, mean_of_defined

_RECALLS = 101

# Runs times resamples at once, and the fewest resamples: arrays stay in a core's cache, and rows are long enough.
_NUMBERS = 2**20
_FEWEST_COLUMNS = 64


class CocoEvaluation:
    """AP of one model on resamples; see :class:`fvnet_mm.report.statistics.resampling.Evaluation`.

    The metrics are AP, AP50, AP75, AP_S, AP_M and AP_L, each with ``prefix`` before it; per class AP.

    Args:
        matches: Of the model's detections.
        most_copies: The largest number of times that an image is in a resample.
        prefix: 'mask ' for masks.
    """

    def __init__(self, matches: CocoMatches, most_copies: int, prefix: str = "") -> None:
        self._most_copies = most_copies
        self._prefix = prefix
        self._named_thresholds = {
            f"AP{round(100 * threshold)}": number
            for number, threshold in enumerate(matches.thresholds)
            if round(100 * threshold) in (50, 75)
        }
        self._objects = {area: np.stack([found.objects for found in matches.areas[area]]) for area in AREAS}
        self._curves = {area: [_Curves(found, most_copies) for found in matches.areas[area]] for area in AREAS}

    def __call__(self, times: np.ndarray) -> Values:
        """Evaluate resamples: ``times`` is (images, B), how often each image is in each, as float64."""
        if times.max(initial=0) > self._most_copies:
            raise ValueError(f"an image is {times.max():.0f} times in a resample, more than {self._most_copies}")
        metrics: dict[str, np.ndarray] = {}
        for area, curves in self._curves.items():
            objects = self._objects[area] @ times
            found = 100 * np.stack(
                [curve.average_precision(times, of_class) for curve, of_class in zip(curves, objects, strict=True)]
            )
            of_classes = found.mean(axis=1)  # of (K, T, B)
            metrics[f"{self._prefix}AP{AREAS[area]}"] = mean_of_defined(of_classes)
            if area == "all":
                per_class = of_classes
                for name, number in self._named_thresholds.items():
                    metrics[f"{self._prefix}{name}"] = mean_of_defined(found[:, number])
        return Values(metrics, per_class)


class _Curves:
    """The precision-recall curves of a class at all IoU thresholds: which detections matter, sorted by score.

    An 'entry' is a detection, or a copy of one; a 'run' is one of true positives (see above). A 'column' is an image,
    or the copy of one with a given number: what has a weight in a resample.
    """

    def __init__(self, found: ClassMatches, most_copies: int) -> None:
        self._images = len(found.objects)
        order = np.argsort(-found.scores, kind="stable")
        order = order[(found.outcomes[:, order] != IGNORED).any(axis=0)]
        images = found.images[order]
        outcomes = found.outcomes[:, order]
        entries, columns = self._separate_copies(found.scores[order], images, outcomes, most_copies)
        outcomes = outcomes[:, entries]

        width = self._images + len(self._copied_images)
        counts = outcomes != IGNORED
        always = counts.all(axis=0)
        ends = [_ends_of_runs(outcome == TRUE, counted) for outcome, counted in zip(outcomes, counts, strict=True)]
        rows = np.unique(np.concatenate(ends))
        self._seen = _between(rows, always, columns, width)
        # For each threshold: the rows of the above that are its runs, the true positives of each run, and what counts
        # at this threshold and not at all of them.
        self._runs = [
            (
                np.searchsorted(rows, end),
                _between(end, outcome == TRUE, columns, width),
                _between(end, counted & ~always, columns, width),
            )
            for end, outcome, counted in zip(ends, outcomes, counts, strict=True)
        ]

    def _separate_copies(
        self, scores: np.ndarray, images: np.ndarray, outcomes: np.ndarray, most_copies: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the entries, as numbers of sorted detections, and their columns."""
        is_new = np.ones(len(scores), bool)
        is_new[1:] = (np.diff(scores) != 0) | (np.diff(images) != 0)
        group = np.cumsum(is_new) - 1
        groups = int(is_new.sum())
        sizes = np.bincount(group, minlength=groups)
        hits = np.bincount(group, (outcomes == TRUE).any(axis=0), minlength=groups)
        is_mixed = ((sizes > 1) & (hits > 0))[group]

        entries = np.repeat(np.arange(len(scores)), np.where(is_mixed, most_copies, 1))
        first = np.ones(len(entries), bool)
        first[1:] = np.diff(entries) != 0
        copy = np.arange(len(entries)) - np.flatnonzero(first)[np.cumsum(first) - 1]
        order = np.lexsort((entries, copy, group[entries]))
        entries, copy = entries[order], copy[order]

        columns = images[entries]
        of_copies = is_mixed[entries]
        keys, places = np.unique(columns[of_copies] * most_copies + copy[of_copies], return_inverse=True)
        columns[of_copies] = self._images + places
        self._copied_images, self._copy_numbers = np.divmod(keys, most_copies)
        return entries, columns

    def average_precision(self, times: np.ndarray, objects: np.ndarray) -> np.ndarray:
        """Return AP at each IoU threshold on each resample as (T, B); NaN where ``objects`` (B,) are none."""
        rows, resamples = self._seen.shape[0], len(objects)
        result = np.zeros((len(self._runs), resamples))
        if rows:
            columns = max(_NUMBERS // rows, _FEWEST_COLUMNS)
            for part in (slice(start, start + columns) for start in range(0, resamples, columns)):
                result[:, part] = self._of_part(np.ascontiguousarray(times[:, part]), np.maximum(objects[part], 1))
        result[:, objects == 0] = np.nan
        return result

    def _of_part(self, times: np.ndarray, objects: np.ndarray) -> np.ndarray:
        if len(self._copied_images):
            times = np.concatenate([times, times[self._copied_images] > self._copy_numbers[:, None]])
        seen = self._seen @ times
        seen[0] += np.spacing(1)  # lost in any sum but 0, by which nothing can be divided
        _accumulate(np.add, seen)
        result = np.zeros((len(self._runs), len(objects)))
        for number, (rows, hits, also) in enumerate(self._runs):
            if not len(rows):
                continue
            found, total = hits @ times, seen[rows]
            _accumulate(np.add, found)
            if also.nnz:
                more = also @ times
                _accumulate(np.add, more)
                total += more
            result[number] = _interpolated(found, total, objects)
        return result


def _ends_of_runs(hits: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """The last hits before another detection that counts, or before none."""
    places = np.flatnonzero(hits)
    wrong_before = np.cumsum(counted & ~hits)[places]
    return places[np.diff(wrong_before, append=len(hits) + 1) > 0]


def _between(ends: np.ndarray, chosen: np.ndarray, columns: np.ndarray, width: int) -> sparse.csr_array:
    """Count, for each end, the chosen entries of each column after the end before it, up to itself: (ends, columns)."""
    entries = np.flatnonzero(chosen)
    rows = np.searchsorted(ends, entries)
    inside = rows < len(ends)
    ones = np.ones(np.count_nonzero(inside))
    return sparse.csr_array((ones, (rows[inside], columns[entries[inside]])), shape=(len(ends), width))


def _interpolated(found: np.ndarray, seen: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Average the envelope over the 101 recalls.

    Args:
        found: (runs, B) true positives up to the end of each run. Overwritten.
        seen: (runs, B) detections up to there, nowhere 0. Overwritten.
        objects: (B,), at least 1.

    Returns:
        (B,) AP.
    """
    envelope = np.divide(found, seen, out=seen)
    _accumulate(np.maximum, envelope[::-1])
    recall = np.divide(found, objects, out=found)
    # Each run reaches the recalls r * 0.01 (in floating point, as pycocotools has them) up to its own. Only the
    # nearest one can be in doubt, and the sign of its distance says whether it is among them.
    reached = 100 * recall
    np.rint(reached, out=reached)
    recall -= 0.01 * reached
    reached += np.floor(recall, out=recall)
    new = found
    np.subtract(reached[1:], reached[:-1], out=new[1:])
    new[0] = reached[0] + 1  # the recall 0
    new *= envelope
    return new.sum(axis=0) / _RECALLS


def _accumulate(operation: np.ufunc, values: np.ndarray) -> None:
    """Replace the rows of (n, B) by their running sums or maxima.

    Like ``operation.accumulate(values, axis=0)``, which goes down one column after the other and is ten times slower.
    """
    length = isqrt(len(values))
    whole = length * length
    runs = values[:whole].reshape(length, length, values.shape[1])
    for place in range(1, length):
        operation(runs[:, place - 1], runs[:, place], out=runs[:, place])
    for run in range(1, length):
        operation(runs[run - 1, -1], runs[run], out=runs[run])
    for row in range(max(whole, 1), len(values)):
        operation(values[row - 1], values[row], out=values[row])
