"""How a comparison is written."""

from fvnet_mm.report.statistics.comparison import Comparison, Difference, format_comparison
from fvnet_mm.report.statistics.resampling import Interval
from fvnet_mm.report.statistics.seeds import SeedTest

NO_SEEDS = SeedTest(1.0, None, None, (1, 1), "a single run has no spread")
CLASSES = (
    Difference("traffic light", 20.0, 23.0, 3.0, Interval(1.0, 5.0), None, "higher"),
    Difference("bus", 40.0, 36.0, -4.0, Interval(-6.0, -2.0), None, "lower"),
    Difference("dog", 30.0, 29.0, -1.0, Interval(-3.0, 1.0), None, "within noise"),
    Difference("toaster", 0.0, 50.0, 50.0, None, None, "undefined"),
    Difference("hair drier", None, None, None, None, None, "undefined"),
)


def test_one_run_each():
    ap = Difference("AP", 31.2, 32.2, 1.0, Interval(0.4, 1.6), NO_SEEDS, "higher")
    comparison = Comparison("small", "large", (1, 1), 5000, 10_000, 0, (ap,), {"AP": CLASSES}, ("other data",))
    assert (
        format_comparison(comparison)
        == """\
A  small (1 run)
B  large (1 run)
5,000 images, 10,000 paired resamples of them

                    A       B    B - A  95 % over images    verdict on B
AP              31.20   32.20    +1.00  +0.40 to +1.60      higher

AP per class, over images: 2 of 3 outside the noise, where chance alone gives about 0.15
largest gains
toaster          0.00   50.00   +50.00  -                   in too few images
traffic light   20.00   23.00    +3.00  +1.00 to +5.00      higher
largest losses
bus             40.00   36.00    -4.00  -6.00 to -2.00      lower
dog             30.00   29.00    -1.00  -3.00 to +1.00      within noise

Note: no interval over seeds: a single run has no spread.
Note: other data."""
    )


def test_several_seeds():
    seeds = SeedTest(1.0, Interval(-0.2, 2.2), 0.0712, (3, 2))
    metrics = (
        Difference("AP", 31.2, 32.2, 1.0, Interval(0.4, 1.6), seeds, "within noise", Interval(-0.34, 2.34)),
        Difference("mask AP_S", None, None, None, None, None, "undefined"),
    )
    comparison = Comparison("small", "large", (3, 2), 50, 100, 0, metrics, {})
    assert (
        format_comparison(comparison)
        == """\
A  small (3 runs)
B  large (2 runs)
50 images, 100 paired resamples of them

                    A       B    B - A  95 % over images    95 % over seeds     p        95 % over both    verdict on B
AP              31.20   32.20    +1.00  +0.40 to +1.60      -0.20 to +2.20      0.071    -0.34 to +2.34    within noise
mask AP_S           -       -        -  -                   -                   -        -                 undefined
The verdict goes by the interval over both, images and seeds, where there is one."""
    )
