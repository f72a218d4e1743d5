"""What is wrong with a suite is said in one sentence, whatever it is.

Ten thousand mutated files each way, in place of some hundred:
python -m pytest tests/suite/test_reading.py --hypothesis-profile=thorough
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fvnet_mm.errors import UserError
from fvnet_mm.places import ROOT
from fvnet_mm.suite.reading import Suite, read_suite

EXAMPLES = max(300, settings().max_examples)
GRID = "backbones: [fvnet_s]\nframeworks: [retinanet]\n"
RICH = """\
name: rich
backbones: [fvnet_t, mobilenet_v2]
frameworks: [retinanet, upernet]
data: [demo, config]
seeds: [0, 1]
cfg_options: [optim_wrapper.optimizer.lr=2e-4]
amp: bf16
exclude:
  - {backbones: [fvnet_t], seeds: [1]}
overrides:
  - match: {frameworks: [upernet]}
    weights: https://example.org/weights.pth
runs:
  - {config: configs/retinanet_fvnet_s_coco_3x.py, name: long, seeds: [5], scratch: true}
"""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GRID + "sedes: [0]", "sedes is no key of a suite; the closest is seeds"),
        (GRID + "overrides: [{match: {framework: [upernet]}}]", "no key of a suite; the closest is frameworks"),
        (GRID + "overrides: [{amp: bf16}]", "overrides.0.match is missing"),
        (GRID + "seeds: [true]", "seeds.0: Input should be a valid integer"),
        (GRID + "seeds: [-1]", "greater than or equal to 0"),
        (GRID + "seeds: 3", "seeds: Input should be a valid tuple"),
        (GRID + "seeds: []", "at least 1"),
        (GRID + "seeds: [1, 1]", "seeds lists 1 twice"),
        (GRID + "amp: bf15", "'bf16' or 'fp16'"),
        (GRID + "cfg_options: [lr]", "is no KEY=VALUE word"),
        (GRID + "data: [demos]", "there is no data in demos: .*the closest is demo"),
        (GRID + "weights: nowhere.pth", "the weights nowhere.pth do not exist"),
        (GRID + "exclude: [{backbones: [fvnet_x]}]", "exclude.0: 'fvnet_x' is none of the suite's backbones"),
        (GRID + "seeds: [0]\nseeds: [1]", r"the key 'seeds' is there twice \(line 4\)"),
        ("backbones: [repvit_m09]\nframeworks: [retinanet]", "no backbone 'repvit_m09'; the closest is repvit_m0_9"),
        ("backbones: ['timm:resnet19']\nframeworks: [retinanet]", "timm has no model 'resnet19'; the closest is resn"),
        ("backbones: [nowhere/net.py]\nframeworks: [upernet]", r"the backbone /.*/nowhere/net\.py does not exist\."),
        (
            "runs: [{config: configs/fvnet_s_in1k.py, backbone: configs/_base_/backbones/fvnets.py}]",
            r"backbones/fvnets\.py does not exist; the closest is fvnet_s\.py",
        ),
        ("backbones: [fvnet_s]\nframeworks: [upernets]", "no framework 'upernets'; the closest is upernet"),
        ("backbones: [fvnet_s]", "frameworks are missing"),
        (
            "runs: [{config: configs/retinanet_fvnet_s_cocoa.py}]",
            "does not exist; the closest is retinanet_fvnet_s_coco",
        ),
        ("runs: [{config: configs/fvnet_s_in1k.py, name: ../up}]", "runs.0.name: String should match"),
        (GRID + f"data: [{'x' * 300}]", "data.0: has a part of more than 255 bytes"),
        ("runs: [{config: " + "x" * 300 + "}]", "runs.0.config: has a part of more than 255 bytes"),
        ("{}", "nothing to train"),
        ("", "is no suite"),
        ("[1, 2]", "is no suite"),
        ("a: [", r"is no YAML: .* \(line 1\)"),
        ("a: !!bool maybe", "is no YAML that can be read"),
        ("a: !!python/object/apply:os.system [true]", "is no YAML: could not determine a constructor"),
        ("a: " + "[" * 5000, "is no YAML"),
    ],
)
def test_mistakes(read: Callable[[str], Suite], text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read(text)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match="no text in UTF-8"):
        read_suite(tmp_path / "demo.yaml")
    with pytest.raises(UserError, match=r"No such file or directory; the closest is demo.yaml"):
        read_suite(tmp_path / "dmo.yaml")
    (tmp_path / "demo.yaml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(UserError, match="more than 1 MiB"):
        read_suite(tmp_path / "demo.yaml")


def test_a_bomb_of_references_ends_at_once(read: Callable[[str], Suite]) -> None:
    levels = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    merged = ["a0: &a0 {x: 1}"] + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 30)]
    for text in ("\n".join(merged), "\n".join(levels), "\n".join([*levels, "backbones: *a29"]), "backbones: &a [*a]"):
        with pytest.raises(UserError) as caught:
            read(text)
        assert len(str(caught.value)) < 1000


def test_other_suites_work_dir_and_name(tmp_path: Path) -> None:
    file = tmp_path / "my suite.yaml"
    file.write_text(GRID)
    suite = read_suite(file)
    assert (suite.name, suite.work_dir) == ("my_suite", Path("work_dirs/my_suite").absolute())
    file.write_text(GRID + f"name: a\nwork_dir: {tmp_path}")
    assert read_suite(file).work_dir == tmp_path
    assert read_suite(file, Path("other")).work_dir == Path("other").absolute()


def survives(content: bytes) -> None:
    """Reads a suite, or refuses it in a sentence; no job lies outside of the work dir."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "suite.yaml")
        file.write_bytes(content)
        try:
            suite = read_suite(file, Path(folder, "work"))
        except UserError as error:
            sentence = str(error)
        else:
            sentence = ""
        assert len(sentence) < 2000
        if sentence:
            return
        assert all(job.work_dir.parent == Path(folder, "work") for job in suite.jobs)
        assert all(isinstance(word, str) and "\0" not in word for job in suite.jobs for word in job.words())


KEYS = [line.split(":")[0] for line in RICH.splitlines() if line[0] not in " -"] + ["match", "config", "<<", "work_dir"]
VALUES = [None, True, -1, 2**64, 1e308, "", "..", "../x", "~", "demo", "fvnet_s", "a=1", "--demo", "x" * 5000, "\u2028"]
scalars = st.sampled_from(VALUES) | st.text(max_size=6) | st.integers() | st.floats()
trees = st.recursive(
    scalars,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | scalars, part, max_size=4),
    max_leaves=12,
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), trees, max_size=5), st.booleans())
def test_fuzz_of_values(changes: dict[str, object], alone: bool) -> None:
    content = changes if alone else yaml.safe_load(RICH) | changes
    survives(yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass"))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6), st.binary(max_size=5)), min_size=1, max_size=8))
def test_fuzz_of_text(edits: list[tuple[float, int, bytes]]) -> None:
    content = RICH.encode()
    for place, length, new in edits:
        at = int(place * len(content))
        content = content[:at] + new + content[at + length :]
    survives(content)


def test_the_example_of_the_fuzz_is_read(read: Callable[[str], Suite]) -> None:
    assert len(read(RICH).jobs) == 2 * 2 * 2 * 2 - 2 * 2 + 1


def test_the_page_of_the_documentation_shows_a_suite(read: Callable[[str], Suite]) -> None:
    page = (ROOT / "docs" / "suite.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    assert read(example).jobs
