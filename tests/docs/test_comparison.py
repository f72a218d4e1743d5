import json
from pathlib import Path

import pytest
from scipy import stats

from fvnet_mm.errors import UserError
from fvnet_mm.records import Backbone, Config, Environment, Protocol, Result, RunRecord
from fvnet_mm.records.reading import read_record, write_record

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def comparison(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    import comparison

    return comparison


@pytest.fixture
def runs(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    import comparison_runs

    return comparison_runs


def record(folder: Path, name: str, seed: int, value: float | None, **arguments: object) -> Path:
    folder.mkdir(parents=True)
    run = RunRecord(
        origin="train",
        status="finished",
        task="detection",
        framework="retinanet",
        config=Config(name=f"retinanet_{name}_coco"),
        backbone=Backbone(name=name, arguments=arguments),
        seed=seed,
        protocol=Protocol(framework="retinanet", length=5, length_unit="epoch"),
        result=Result(metrics={"AP": value}),
    )
    write_record(run, folder / "run.json")
    return folder


def test_page_is_that_of_the_records(script):
    assert script("comparison", "--check") == ""


def test_differences_are_those_of_welch(comparison, runs, tmp_path):
    values = {"fvnet_t": (30.0, 31.5, 30.4), "mobilenet_v2": (25.0, 27.0, 26.5)}
    folders = [
        record(tmp_path / f"{name}{seed}", name, seed, value, arch="t" if name == "fvnet_t" else None)
        for name, own in values.items()
        for seed, value in enumerate(own)
    ]
    (scores,) = runs.read_scores(folders).values()
    limits = stats.ttest_ind(*values.values(), equal_var=False).confidence_interval()
    (rival,) = (trunk for trunk in scores if trunk.name == "mobilenet_v2")
    own = runs.Trunk("fvnet_t")
    cell = comparison.accuracy(scores, rival, own)
    assert cell == f"26.2 ± 2.6; **+4.5 [{limits.low:+.1f}, {limits.high:+.1f}]**"
    assert comparison.accuracy(scores, own, own) == "30.6 ± 1.9"
    assert comparison.accuracy(scores, runs.Trunk("repvit_m0_9"), own) == "not run"


def test_a_single_run_has_no_interval(comparison, runs):
    fvnet, rival = runs.Trunk("fvnet_t"), runs.Trunk("mobilenet_v2")
    scores = {fvnet: {0: 30.0}, rival: {0: 29.0}}
    assert comparison.accuracy(scores, rival, fvnet) == "29.0 (1); +1.0"


def test_a_rival_that_was_run_otherwise_is_marked(comparison, runs):
    fvnet, usual = runs.Trunk("fvnet_t"), runs.Trunk("mobilenet_v2")
    changed, other = (runs.Trunk(usual.name, json.dumps({"widen_factor": factor})) for factor in (0.5, 0.75))
    marks = {}
    scores = {fvnet: {0: 30.0}, usual: {0: 29.0}, changed: {0: 28.0}}
    assert comparison.in_setting(scores, usual.name, fvnet, marks, {}) == "28.0 (1); +2.0†; 29.0 (1); +1.0"
    assert comparison.in_setting({other: {0: 20.0}}, usual.name, fvnet, marks, {}) == "20.0 (1)††"
    assert comparison.in_setting({fvnet: {0: 30.0}}, usual.name, fvnet, marks, {}) == "not run"
    assert marks == {changed: "†", other: "††"}


def test_where_fvnet_stands(comparison, runs):
    own, rival = runs.Trunk("fvnet_t"), runs.Trunk("mobilenet_v2")
    changed = runs.Trunk(rival.name, json.dumps({"widen_factor": 0.5}))
    values = {0: 30.0, 1: 31.5, 2: 30.4}
    low, high = {0: 25.0, 1: 27.0, 2: 26.5}, {0: 35.0, 1: 37.0, 2: 36.5}
    cases = [
        ({own: values, rival: low}, "significantly above"),
        ({own: values, rival: {0: 25.0, 1: 31.4, 2: 26.5}}, "higher mean, within noise"),
        ({own: values, rival: low, changed: {0: 30.0, 1: 31.0}}, "higher mean, within noise"),
        ({own: values, rival: {0: 37.0, 1: 30.6, 2: 35.5}}, "lower mean, within noise"),
        ({own: values, rival: high}, "significantly below"),
        ({own: values, rival: low, changed: high}, "significantly below"),
        ({own: {0: 30.0}, rival: {0: 25.0}}, "higher, single runs"),
        ({own: {0: 20.0}, rival: {0: 25.0}}, "lower, single runs"),
        ({own: values}, "not run"),
        ({rival: values}, "not run"),
    ]
    for scores, expected in cases:
        assert comparison.outcome(scores, rival.name, own) == expected


def test_rivals_on_another_device_are_marked(comparison, runs, tmp_path):
    devices = {"fvnet_t": "GPU", "mobilenet_v2": "GPU", "repvit_m0_9": "CPU"}
    folders = []
    for name, device in devices.items():
        folder = record(tmp_path / name, name, 0, 20.0, arch="t" if name == "fvnet_t" else None)
        run = read_record(folder / "run.json")
        write_record(run.model_copy(update={"environment": Environment(device=device)}), folder / "run.json")
        folders.append(folder)
    (found,) = runs.read_devices(folders).values()
    assert {trunk.name: own for trunk, own in found.items()} == {name: {device} for name, device in devices.items()}
    (scores,) = runs.read_scores(folders).values()
    cells = [comparison.in_setting(scores, name, runs.Trunk("fvnet_t"), {}, found) for name in devices]
    assert [cell.endswith("‡") for cell in cells] == [False, False, True]


def test_a_changed_trunk_is_another(runs, tmp_path):
    usual = {"arch": "large", "out_indices": [1, 2, 3]}
    changed = {**usual, "norm_cfg": {"type": "BN", "momentum": 0.1}}
    folders = [record(tmp_path / str(len(a)), "mobilenet_v3_large", 0, 20.0, **a) for a in (usual, changed)]
    (scores,) = runs.read_scores(folders).values()
    names = ["MobileNetV3-large", "MobileNetV3-large, `norm_cfg={'momentum': 0.1, 'type': 'BN'}`"]
    assert [str(trunk) for trunk in scores] == names


@pytest.mark.parametrize(
    "same",
    [dict(unit=["SiLUUnit", "FTFU"]), dict(tau=[1, 16]), dict(expansions=[2, 2, 3, 3]), dict(drop_path_rate=0.0)],
)
def test_an_argument_spelt_out_changes_nothing(runs, same):
    assert runs.changes("fvnet_t", {"arch": "t", **same}) == "{}"
    assert runs.changes("fvnet_t", {"arch": "t", "unit": "FTFU", **same}) != "{}" or "unit" in same


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    first = record(tmp_path / "a", "fvnet_t", 0, 30.0, arch="t")
    with pytest.raises(UserError, match="a second run with seed 0"):
        runs.read_scores([first, record(tmp_path / "b", "fvnet_t", 0, 31.0, arch="t")])
    with pytest.raises(UserError, match="no finished run with a seed"):
        runs.read_scores([record(tmp_path / "c", "fvnet_t", 1, None, arch="t")])


def test_what_is_not_above_four_convolutions(comparison, runs):
    scores = {
        "a setting at a rate": {
            runs.Trunk("fvnet_t"): {0: 40.0, 1: 41.0, 2: 40.5},
            runs.Trunk("mobilenet_v2"): {0: 36.0, 1: 30.0, 2: 42.0},
            runs.Trunk("repvit_m0_9"): {0: 30.0, 1: 31.0, 2: 30.5},
            runs.Trunk("repvit_m1_1"): {0: 38.0},
            runs.Trunk("resnet18"): {0: 34.0},
        },
        "not run there": {runs.Trunk("fvnet_t"): {0: 1.0}},
    }
    lines = comparison.floor(scores, {"a setting at a rate": {0: 35.0, 1: 36.0, 2: 35.5}}).splitlines()
    held = "RepViT-M0.9 (-5.0), ResNet-18 (-1.5), MobileNetV2 (+0.5)"  # those once run by their means
    assert lines[2:] == [f"| (1) a setting | 35.5 ± 1.2 | {held} |"]


def test_four_convolutions_are_a_trunk_without_a_description_here(runs, tmp_path):
    folder = record(tmp_path / "own", runs.FLOOR, 0, 20.0, out_indices=[1, 2, 3])
    (scores,) = runs.read_scores([folder]).values()
    assert scores == {runs.Trunk(runs.FLOOR): {0: 20.0}}


def test_the_page_of_own_backbones_shows_these_files():
    text = (DOCS / "own_backbone.md").read_text(encoding="utf-8")
    for name in ("mynet.py", "mynet_small.py"):
        assert f"```python\n{(DOCS / 'own_backbone' / name).read_text(encoding='utf-8')}```" in text
