"""Top-1 accuracy of resamples against a count of the resampled images."""

import numpy as np
import pytest

from fvnet_mm.report.statistics.accuracy_bootstrap import AccuracyEvaluation


def test_against_a_count():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 4, size=(2, 15))
    times = rng.multinomial(15, np.full(15, 1 / 15), size=30).T
    values = AccuracyEvaluation(labels, predictions, 5)(times.astype(float))
    for number, resample in enumerate(times.T):
        drawn = np.repeat(np.arange(15), resample)
        right = labels[drawn] == predictions[drawn]
        assert values.metrics["top-1"][number] == pytest.approx(100 * right.mean(), abs=1e-12)
        for label, value in enumerate(values.per_class[:, number]):
            of_class = right[labels[drawn] == label]
            expected = 100 * of_class.mean() if len(of_class) else np.nan
            assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)
