import json
import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config as MMConfig

from fvnet_mm.backbones import FTFU, FVNet
from fvnet_mm.backbones.mpfb import UNITS, units_of
from fvnet_mm.engine.config_file import apply_overrides
from fvnet_mm.records import Backbone, Complexity, Config, Protocol, Result, RunRecord
from fvnet_mm.records.reading import read_record, write_record
from fvnet_mm.suite.schema import SuiteFile

PAGE = Path(__file__).parents[2] / "docs" / "ablation.md"


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(PAGE.parent)
    import ablation

    monkeypatch.setattr(ablation, "cost", lambda arguments: ("1.00", "0.100"))
    return ablation


def record(folder: Path, seed: int, value: float, **arguments: object) -> None:
    folder.mkdir(parents=True)
    run = RunRecord(
        origin="train",
        status="finished",
        task="semantic_segmentation",
        framework="semantic_fpn",
        config=Config(name="semantic_fpn_fvnet_s_ade20k"),
        backbone=Backbone(name="fvnet_s", type="FVNet", arguments=arguments),
        seed=seed,
        protocol=Protocol(framework="semantic_fpn", length=300, length_unit="step"),
        result=Result(metrics={"mIoU": value}),
    )
    write_record(run, folder / "run.json")


def tables_of(ablation, folder: Path) -> str:
    """The tables of FVNets as they are now."""
    return ablation.parts(ablation.read_runs([folder]))["tables"]


def rows_of(ablation, base: int = 0) -> dict[str, str]:
    """Names of the rows of a base, by their settings."""
    return {ablation.settings_of(row.arguments): row.name for row in ablation.variants(ablation.BASES[base])}


def test_every_unit_has_a_row_of_its_own(ablation):
    rows = list(ablation.variants(ablation.BASES[0]))
    named = {each["type"] for row in rows for each in units_of(row.arguments.get("unit"), phases=2)}
    assert named == set(UNITS)
    assert len({ablation.settings_of(row.arguments) for row in rows}) == len(rows)


def test_every_job_of_the_suite_trains_a_row(ablation):
    root = PAGE.parents[1]
    file = SuiteFile.model_validate(yaml.safe_load((root / "suites" / "ablation.yaml").read_text()))
    rows = rows_of(ablation)
    trained = []
    for run in file.runs:
        cfg = MMConfig.fromfile(root / run.config)
        apply_overrides(cfg, list(run.cfg_options))
        assert list(cfg.model.neck.in_channels) == list(
            FVNet(**{k: v for k, v in cfg.model.backbone.items() if k != "type"}).channels
        )
        trained.append((run.data, rows[ablation.settings_of(cfg.model.backbone)]))
    assert len(set(trained)) == len(trained)
    assert set(rows.values()) - {row for _, row in trained} == {ablation.BASES[0].holds}  # which camvid.yaml has


def test_page_has_the_costs_of_the_code(monkeypatch):
    monkeypatch.syspath_prepend(PAGE.parent)
    import ablation

    text = PAGE.read_text(encoding="utf-8")
    rows = list(ablation.variants(ablation.BASES[0]))
    for row in (rows[0], rows[2], rows[-1]):
        counted = ablation.cost(row.arguments)
        assert f"| {' | '.join((row.name, *counted))} |" in text
    assert all(f"| {row.name} |" in text for row in rows)


def test_results_come_from_records(ablation, tmp_path, monkeypatch):
    for seed, value in enumerate((30.0, 31.0, 32.0)):
        record(tmp_path / f"ftfu{seed}", seed, value, arch="t", out_indices=[0, 1, 2, 3])
        record(
            tmp_path / f"gated{seed}",
            seed,
            value - (10, 11, 12)[seed],
            arch="t",
            unit={"type": "GatedUnit"},
            tau=[1, 16],
        )
    monkeypatch.setattr(ablation, "SPEEDS", tmp_path / "speed.json")
    text = tables_of(ablation, tmp_path)
    assert "\n(1) mIoU of Semantic FPN on unknown data, 300 steps" in text
    assert "6 trainings, none diverged; 1 of 1 intervals exclude 0." in text
    # s = 1 over seeds, 0 of the second row, and 1 of the differences; t(0.975, 2) = 4.303
    assert f"| {ablation.BASES[0].holds} | 1.00 | 0.100 | 31.00 ± 2.48 (3) |" in text
    assert "| gate of a GRU | 1.00 | 0.100 | 20.00 ± 0.00 (3); **-11.00 [-13.48, -8.52]** |" in text
    assert "| x + SiLU(v) in all phases | 1.00 | 0.100 |  |" in text
    rows = [ablation.settings_of(row.arguments) for row in ablation.variants(ablation.BASES[0])]
    ratios = {size: {key: [1.25, 1.2, 1.3] for key in rows} for size in ("224", "512")}
    ablation.SPEEDS.write_text(json.dumps(dict(ratios=ratios)))
    text = tables_of(ablation, tmp_path)
    assert "| gate of a GRU | 1.00 | 0.100 | **1.25**, **1.25** | 20.00" in text


def test_a_training_whose_loss_was_not_finite_is_counted(ablation, tmp_path):
    record(tmp_path / "ftfu", 0, 33.0, arch="t")
    for seed, value in enumerate((30.0, 31.0, 32.0)):
        record(tmp_path / f"euler{seed}", seed, value, arch="t", unit={"type": "EulerUnit", "steps": 2})
    (tmp_path / "euler2" / "run.json").write_text(
        (tmp_path / "euler2" / "run.json").read_text().replace('"finished"', '"running"').replace('"mIoU": 32.0', "")
    )
    row = re.compile(r"\| 2 explicit Euler steps \|.*\| (.*) \|")
    text = tables_of(ablation, tmp_path)
    assert row.search(text)[1].startswith("30.50 ± 6.35 (2); -3.00")
    (tmp_path / "euler2" / "nonfinite_iter_7.json").write_text("{}")
    text = tables_of(ablation, tmp_path)
    assert row.search(text)[1].startswith("30.50 ± 6.35 (3, 1 diverged); -3.00")
    assert "4 trainings, 1 diverged.  " in text


def test_time_constants_are_compared_with_where_they_start(ablation, tmp_path, monkeypatch):
    import learned_tau

    record(tmp_path / "run", 0, 30.0, arch="t")
    trunk = FVNet("t")
    with torch.no_grad():
        for unit in trunk.stages[1].modules():
            if isinstance(unit, FTFU):
                unit.log_tau += math.log(1.5)
    torch.save({"state_dict": trunk.state_dict(prefix="backbone.")}, tmp_path / "run" / "iter_300.pth")
    monkeypatch.setattr(learned_tau, "TIME_CONSTANTS", tmp_path / "time_constants.json")
    monkeypatch.setattr("sys.argv", ["learned_tau", str(tmp_path / "run")])
    other = dict(arguments=dict(arch="t"), trained="retinanet on bccd, 15 epochs", seed=0, stages=[])
    (tmp_path / "time_constants.json").write_text(json.dumps([other]))
    for _ in range(2):  # a run counts once, however often it is read
        learned_tau.main()
    kept, found = json.loads((tmp_path / "time_constants.json").read_text())
    assert kept == other
    moved = "+0.0% (0.0%) | +50.0% (50.0%) | +0.0% (0.0%) | +0.0% (0.0%)"
    row = f"| FVNet-T: {ablation.BASES[0].holds} | {found['trained']} | 1 | {moved} |"
    assert ablation.time_constants([found]).splitlines()[-1] == row


def test_page_has_the_results_of_the_records(ablation):
    pages = (PAGE, ablation.HISTORY)
    sections = [section for page in pages for section in page.read_text(encoding="utf-8").split("\n## ")]
    tables = ablation.read_runs(ablation.RUNS)
    assert tables
    for heading, runs in tables.items():
        base = ablation.BASES[heading.base]
        section = next(section for section in sections if section.startswith(f"{base.title}\n"))
        number = re.search(rf"^\((\d+)\) {re.escape(heading.setting)}: ", section, re.MULTILINE)[1]
        rows = rows_of(ablation, heading.base)
        of_base = runs[ablation.settings_of(base.arguments)]
        for table in section.split("\n\n"):
            lines = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
            for own in runs.keys() if lines else ():
                found = [line for line in lines if line[0] == f"| {rows[own]}"]
                place = lines[0].index(f"({number})") if f"({number})" in lines[0] else -1
                assert all(line[place].removesuffix(" |") == ablation.cell(runs[own], of_base) for line in found)
        assert all(f"\n| {rows[own]} |" in section for own in runs)


def test_sizes_have_tables_of_their_own(ablation, tmp_path):
    for arch, value in (("t", 30.0), ("s", 40.0)):
        record(tmp_path / arch, 0, value, arch=arch)
        record(tmp_path / f"{arch}_twin", 0, value + 1.5, arch=arch, unit={"type": "DepthwiseUnit"})
    tiny, small = tables_of(ablation, tmp_path).split("## FVNet-S\n")
    for text, values in ((tiny, ("30.00 (1)", "31.50 (1); +1.50")), (small, ("40.00 (1)", "41.50 (1); +1.50"))):
        for name, value in zip((ablation.BASES[0].holds, "two plain depthwise convolutions"), values, strict=True):
            assert re.search(rf"\| {re.escape(name)} \| 1\.00 \| 0\.100 \|.* {re.escape(value)} \|", text)
    assert "gate of a GRU" in tiny  # of what is built now and ablated every row is there, run or not
    assert "gate of a GRU" not in small


def test_a_record_of_an_earlier_version_is_of_what_was_built_then(ablation, tmp_path):
    """Its size had other channels; the number of its parameters tells which."""
    first = next(base for base in ablation.BASES if base.title == "FVNet-T as first built")
    for name, changed in (("base", {}), ("twin", {"unit": {"type": "SiLUUnit"}})):
        record(tmp_path / name, 0, 30.0, arch="t", **changed)
        file = tmp_path / name / "run.json"
        counted = sum(p.numel() for p in FVNet(**{**first.arguments, **changed}).parameters())
        complexity = Complexity(parameters={"backbone": counted}, macs={"backbone": 0}, shape=(512, 512))
        write_record(read_record(file).model_copy(update={"complexity": complexity}), file)
    ((heading, runs),) = ablation.read_runs([tmp_path]).items()
    assert ablation.BASES[heading.base] == first
    assert len(runs) == 2
    unknown = complexity.model_copy(update={"parameters": {"backbone": counted + 1}})
    write_record(read_record(file).model_copy(update={"complexity": unknown}), file)
    with pytest.raises(ablation.UserError, match=f"no version of fvnet_s .* has {counted + 1} parameters"):
        ablation.read_runs([tmp_path])


def test_rows_match_however_a_config_says_it(ablation):
    arch = FVNet.get_arch("t")
    as_lists = {"channels": list(arch.channels), "depths": list(arch.depths)}
    spelt = {"arch": as_lists, "unit": [{"type": "SiLUUnit"}, "FTFU"], "tau": [1, 16]}
    assert ablation.settings_of(spelt) == ablation.settings_of({"arch": "t"})
    step = [ablation.settings_of({"arch": "t", "unit": {"type": "FTFU", "dt": dt}}) for dt in (4, 4.0, 2)]
    assert step[0] == step[1] != step[2]


def test_two_runs_of_one_seed(ablation, tmp_path):
    for name in ("a", "b"):
        record(tmp_path / name, 0, 30.0, arch="t")
    with pytest.raises(ablation.UserError, match="a second run with seed 0 of the same settings"):
        ablation.read_runs([tmp_path])


def test_tables_of_your_own_runs_are_printed(ablation, tmp_path, monkeypatch, capsys):
    for name, changed in (("base", {}), ("twin", {"unit": {"type": "SiLUUnit"}})):
        record(tmp_path / name, 0, 30.0, arch="t", **changed)
    before = PAGE.read_bytes()
    monkeypatch.setattr("sys.argv", ["ablation", "--records", str(tmp_path)])
    ablation.main()
    assert "| x + SiLU(v) in all phases | 1.00 | 0.100 |" in capsys.readouterr().out
    assert PAGE.read_bytes() == before


def test_answers_are_differences_of_like_rows(ablation, tmp_path):
    import ablation_answers

    gates = (31.0, 31.5, 29.0)
    for seed, value in enumerate((30.0, 31.0, 29.0)):
        record(tmp_path / f"now{seed}", seed, 40.0 + seed, arch="t")
        record(tmp_path / f"ftfu{seed}", seed, value, arch="t", unit={"type": "FTFU"})
        record(tmp_path / f"gated{seed}", seed, gates[seed], arch="t", unit={"type": "GatedUnit"})
    lines = ablation_answers.answers(ablation.read_runs([tmp_path])).splitlines()
    # differences -1, -0.5 and 0: s = 0.5, then 10, 10 and 13: s = 1.732; t(0.975, 2) = 4.303
    assert "| FTFU in all phases against gate of a GRU | -0.50 [-1.74, +0.74] |" in lines
    assert "| FVNet-T against FTFU in all phases | **+11.00 [+6.70, +15.30]** |" in lines
    assert not any("CfC" in line for line in lines)  # not run
    assert "1 of 2 intervals exclude 0; 0.1 would be expected by chance." in lines


def test_every_pair_is_of_rows(ablation):
    import ablation_answers

    pairs = [pair for pairs in ablation_answers.PAIRS.values() for pair in pairs]
    assert {name for pair in pairs for name in pair} <= set(rows_of(ablation).values())
    assert len(set(map(frozenset, pairs))) == len(pairs)
