"""Settings that win over others, and words that no command line can take for something else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fvnet_mm.suite.schema import Match, Settings, SuiteFile

words = st.builds("{}={}".format, st.from_regex(r"\A[a-z_][a-z_.0-9]{0,8}\Z"), st.sampled_from(["1", "(1, 2)", "a=b"]))
fields = st.fixed_dictionaries(
    {},
    optional=dict(
        cfg_options=st.lists(words, max_size=3),
        weights=st.sampled_from(["a.pth", "https://x/b.pth"]),
        amp=st.sampled_from(["bf16", "fp16"]),
        cuda_graphs=st.booleans(),
        auto_scale_lr=st.booleans(),
        skip_bad_images=st.booleans(),
    ),
)


@settings(deadline=None)
@given(fields, fields)
def test_what_is_said_later_wins_and_what_is_not_said_stays(first: dict, second: dict) -> None:
    merged = Settings(**first).overridden(Settings(**second))
    for name in ("weights", "amp", "cuda_graphs", "auto_scale_lr", "skip_bad_images"):
        assert getattr(merged, name) == second.get(name, first.get(name, Settings.model_fields[name].default))
    assert list(merged.cfg_options) == first.get("cfg_options", []) + second.get("cfg_options", [])


def test_weights_and_scratch_replace_each_other() -> None:
    weights, scratch = Settings(weights="a.pth"), Settings(scratch=True)
    assert weights.overridden(scratch) == scratch
    assert scratch.overridden(weights) == weights
    with pytest.raises(ValidationError, match="exclude each other"):
        Settings(weights="a.pth", scratch=True)


def test_what_is_said_of_weights_goes_with_them() -> None:
    mine = Settings(weights="a.pth", pretraining="plain")
    assert mine.overridden(Settings(amp="bf16")).pretraining == "plain"
    assert mine.overridden(Settings(weights="b.pth")).pretraining is None
    assert mine.overridden(Settings(weights=None)) == Settings()
    assert mine.overridden(Settings(scratch=True)) == Settings(scratch=True)
    with pytest.raises(ValidationError, match="there are none beside it"):
        Settings(pretraining="plain")


@settings(deadline=None)
@given(st.text(max_size=12))
def test_an_option_is_no_flag(text: str) -> None:
    try:
        (word,) = Settings(cfg_options=(text,)).cfg_options
    except ValidationError:
        return
    assert word == text
    assert not word.startswith("-")
    assert "=" in word
    assert word.isprintable()


@pytest.mark.parametrize("word", ["--work-dir=/tmp", "-x=1", "=1", "a", "a =1", "a=\0", "a=\n--demo"])
def test_words_that_could_do_something_else_are_refused(word: str) -> None:
    with pytest.raises(ValidationError, match="KEY=VALUE"):
        Settings(cfg_options=(word,))


@pytest.mark.parametrize("name", ["..", "a/b", "../x", "", ".hidden", "-f", "a\nb", "x" * 151])
def test_a_name_is_one_folder(name: str) -> None:
    with pytest.raises(ValidationError):
        SuiteFile(name=name, runs=[dict(config="c.py")])


def test_match_of_several_lists() -> None:
    match = Match(backbones=("a", "b"), seeds=(1,))
    assert match.takes("a", "any", "any", 1)
    assert not match.takes("a", "any", "any", 0)
    assert not match.takes("c", "any", "any", 1)
    assert Match().takes("x", "y", "z", 3)
