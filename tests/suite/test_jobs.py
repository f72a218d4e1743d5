"""The grid, exclusions, overrides, further runs, and the command line of each job."""

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fvnet_mm.errors import UserError
from fvnet_mm.places import CONFIGS, ROOT
from fvnet_mm.suite.jobs import DATA_SETS, Job, expand
from fvnet_mm.suite.reading import Suite, read_suite
from fvnet_mm.suite.schema import Match, SuiteFile

BACKBONES = ("fvnet_t", "mobilenet_v2", "repvit_m0_9")

some = st.sets(st.sampled_from(BACKBONES), min_size=1).map(sorted)
frameworks = st.sets(st.sampled_from(sorted(DATA_SETS)), min_size=1).map(sorted)
seeds = st.sets(st.integers(0, 2**32 - 1), min_size=1, max_size=3).map(sorted)


def parsed(job: Job) -> object:
    """A job's words as tools/train.py understands them."""
    spec = spec_from_file_location("train", ROOT / "tools" / "train.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.train_parser().parse_args(job.words())


@settings(deadline=None)
@given(some, frameworks, seeds, st.sets(st.sampled_from(["demo", "config"]), min_size=1), st.data())
def test_grid_is_the_product_without_what_is_excluded(
    backbones: list[str], frameworks: list[str], seeds: list[int], data: set[str], draw: st.DataObject
) -> None:
    points = list(product(frameworks, backbones, sorted(data), seeds))
    out = draw.draw(st.sets(st.sampled_from(points), max_size=len(points) - 1))
    exclude = [Match(frameworks=(f,), backbones=(b,), data=(d,), seeds=(s,)) for f, b, d, s in sorted(out)]
    file = SuiteFile(backbones=backbones, frameworks=frameworks, data=sorted(data), seeds=seeds, exclude=exclude)
    jobs = expand(file, Path("work"))
    assert len(jobs) == len(points) - len(out)
    assert len({job.name for job in jobs}) == len({job.work_dir for job in jobs}) == len(jobs)
    assert all(job.work_dir.parent == Path("work") and job.config.is_file() for job in jobs)
    assert [job.seed for job in jobs] == [s for f, b, d, s in points if (f, b, d, s) not in out]


def test_words_are_what_the_tool_reads(read: Callable[[str], Suite], tmp_path: Path) -> None:
    weights = tmp_path / "my weights.pth"
    weights.touch()
    suite = read(f"""
backbones: [fvnet_t, repvit_m0_9]
frameworks: [upernet]
data: [demo, {tmp_path}]
seeds: [7]
cfg_options: [a.b=1]
overrides:
  - match: {{backbones: [repvit_m0_9]}}
    cfg_options: ["a.b=(2, 3)"]
    weights: "{weights}"
    pretraining: plain
    amp: bf16
    cuda_graphs: true
""")
    own, own_data, plugged, _ = map(parsed, suite.jobs)
    assert (own.config, own.backbone) == (CONFIGS / "upernet_fvnet_t_ade20k.py", None)
    assert (own.demo, own.data, own_data.demo, own_data.data) == (True, None, False, tmp_path.resolve())
    assert (own.seed, own.cfg_options, own.amp, own.weights) == (7, ["a.b=1"], None, None)
    assert (plugged.config.stem, plugged.backbone) == ("upernet_fvnet_s_ade20k", "repvit_m0_9")
    assert (plugged.cfg_options, plugged.weights, plugged.amp) == (["a.b=1", "a.b=(2, 3)"], str(weights), "bf16")
    assert (own.pretraining, plugged.pretraining) == (None, "plain")
    assert "pretraining" not in suite.jobs[0].definition()  # as in the files of jobs that began without the setting
    assert (own.cuda_graphs, plugged.cuda_graphs) == (False, True)
    assert "cuda_graphs" not in suite.jobs[2].definition()  # the same training
    assert plugged.work_dir == tmp_path / "work" / "upernet_repvit_m0_9_ade20k_demo_seed7"


@pytest.mark.parametrize("flag", ["scratch", "cuda_graphs", "auto_scale_lr", "skip_bad_images"])
def test_every_flag_reaches_the_tool(flag: str, read: Callable[[str], Suite]) -> None:
    flagged, plain = read(f"""
runs:
  - {{config: configs/retinanet_fvnet_s_coco.py, name: a, {flag}: true}}
  - {{config: configs/retinanet_fvnet_s_coco.py, name: b, seeds: [1]}}
""").jobs
    assert (getattr(parsed(flagged), flag), getattr(parsed(plain), flag)) == (True, False)


def test_a_definition_tells_trainings_apart_and_not_places(read: Callable[[str], Suite], tmp_path: Path) -> None:
    def definition(words: str, config: str = "retinanet_fvnet_s_coco") -> dict[str, object]:
        (job,) = read(f"runs: [{{config: configs/{config}.py{words}}}]").jobs
        return job.definition()

    for folder in ("x", "y"):
        (tmp_path / folder / "set").mkdir(parents=True)
        for name in ("a.pth", "b.pth"):
            (tmp_path / folder / name).touch()
    others = [
        "",
        ", seeds: [1]",
        ", backbone: repvit_m0_9",
        ", data: demo",
        f", data: {tmp_path}/x/set",
        f", weights: {tmp_path}/x/a.pth",
        f", weights: {tmp_path}/x/b.pth",
        ", amp: bf16",
        ", scratch: true",
        ", auto_scale_lr: true",
        ", skip_bad_images: true",
        ", cfg_options: [a=1]",
    ]
    found = [definition(words) for words in others] + [definition("", "retinanet_fvnet_t_coco")]
    assert all(found[i] != found[j] for i in range(len(found)) for j in range(i))
    for words in (f", data: {tmp_path}/x/set", f", weights: {tmp_path}/x/a.pth"):
        assert definition(words) == definition(words.replace("/x/", "/y/"))


def test_a_backbone_of_ones_own_is_named_by_its_file(
    read: Callable[[str], Suite], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    description = tmp_path / "mine" / "fvnet_s.py"  # as if it were the suite's, which has configs of its own
    description.write_text("backbone = dict()\n")
    grid = """
backbones: [fvnet_t, {own}]
frameworks: [retinanet]
overrides:
  - match: {{backbones: [{own}]}}
    scratch: true
runs:
  - {{config: configs/upernet_fvnet_s_ade20k.py, backbone: {own}}}
"""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names = ["retinanet_fvnet_t_coco_seed0", "retinanet_fvnet_s_coco_seed0", "upernet_fvnet_s_ade20k_fvnet_s_seed0"]
    for own in (description, "mine/fvnet_s.py", "~/mine/fvnet_s.py"):
        _, gridded, further = jobs = read(grid.format(own=own)).jobs
        assert [job.name for job in jobs] == names
        assert [parsed(job).backbone for job in (gridded, further)] == [str(description)] * 2
        assert [parsed(job).scratch for job in jobs] == [False, True, False]
        assert gridded.definition()["backbone"] == "fvnet_s"


def test_an_ablation_is_a_list_of_runs(read: Callable[[str], Suite]) -> None:
    suite = read("""
cfg_options: [x=0]
runs:
  - {config: configs/retinanet_fvnet_s_coco.py, name: no_mix, cfg_options: [a.mix=False], seeds: [0, 1]}
  - {config: configs/retinanet_fvnet_s_coco_3x.py, data: demo, scratch: true}
""")
    names = ["no_mix_seed0", "no_mix_seed1", "retinanet_fvnet_s_coco_3x_demo_seed0"]
    assert [job.name for job in suite.jobs] == names
    assert parsed(suite.jobs[0]).cfg_options == ["x=0", "a.mix=False"]
    last = parsed(suite.jobs[2])
    assert (last.scratch, last.demo, last.cfg_options) == (True, True, ["x=0"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("runs: [{config: configs/fvnet_s_in1k.py}, {config: configs/fvnet_s_in1k.py, name: b}]", "the same training"),
        ("runs: [{config: configs/fvnet_s_in1k.py, seeds: [3, 3]}]", "fvnet_s_in1k_seed3 twice"),
        (
            "runs: [{config: configs/fvnet_s_in1k.py, name: a}, {config: configs/fvnet_t_in1k.py, name: a}]",
            "two different runs would be called a_seed0",
        ),
        ("backbones: [fvnet_s]\nframeworks: [retinanet]\nexclude: [{seeds: [0]}]", "leaves out every job"),
        (
            "backbones: [fvnet_s, fvnet_t]\nframeworks: [retinanet]\nexclude: [{backbones: [fvnet_t]}]\n"
            "overrides: [{match: {backbones: [fvnet_t]}, amp: bf16}]",
            "overrides.0 matches no job",
        ),
    ],
)
def test_what_cannot_be_meant(read: Callable[[str], Suite], text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read(text)


def test_files_of_the_same_name_in_other_folders_are_other_trainings(
    read: Callable[[str], Suite], tmp_path: Path
) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "latest.pth").touch()
        (tmp_path / folder / "mine.py").touch()
    for run in (
        "config: configs/fvnet_s_in1k.py, backbone: {}/mine.py",
        "config: configs/fvnet_s_in1k.py, weights: {}/latest.pth",
        "config: {}/mine.py",
        "config: configs/fvnet_s_in1k.py, data: {}",
    ):
        here, there = (run.format(tmp_path / folder) for folder in ("x", "y"))
        assert len(read(f"runs: [{{{here}, name: a}}, {{{there}, name: b}}]").jobs) == 2
        with pytest.raises(UserError, match="the same training"):
            read(f"runs: [{{{here}, name: a}}, {{{here}, name: b}}]")


def test_jobs_of_the_grid_that_would_share_a_name(read: Callable[[str], Suite], tmp_path: Path) -> None:
    folders = [tmp_path / name / "set" for name in ("x", "y")]
    for folder in folders:
        folder.mkdir(parents=True)
    grid = "backbones: [fvnet_t]\nframeworks: [retinanet]\ndata: [{}, {}]"
    called = "two different jobs of the grid would be called retinanet_fvnet_t_coco_set_seed0; "
    with pytest.raises(UserError, match=f"{called}rename a folder .* under runs with a name"):
        read(grid.format(*folders))
    run = f"{{config: configs/retinanet_fvnet_t_coco.py, name: mine, data: {folders[1]}}}"
    assert len(read(f"{grid.format(folders[0], 'demo')}\nruns: [{run}]").jobs) == 3


def test_the_suites_of_the_repository() -> None:
    demo, paper = (read_suite(ROOT / "suites" / f"{name}.yaml") for name in ("demo", "paper"))
    assert len(demo.jobs) == 2 * 4 * 2
    assert len(paper.jobs) == 17 * 4 * 3
    assert {f"retinanet_fvnet_{size}_coco_seed0" for size in "ntsml"} <= {job.name for job in paper.jobs}
