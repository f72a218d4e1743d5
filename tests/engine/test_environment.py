import pytest

from fvnet_mm.engine import environment


@pytest.mark.parametrize(
    ("version", "tested"),
    [
        ("2.6.0", True),
        ("2.5.1", False),
        ("2.15.0+cu130", True),
        ("2.15.9", True),
        ("2.16.0", False),
        ("2.16.0.dev20261101", False),
        ("3.0", False),
    ],
)
def test_range(version: str, tested: bool) -> None:
    assert environment.is_tested(version, "2.6", "2.15") == tested


def test_only_what_is_outside_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "TESTED", {"python": ("2.0", "2.7"), "pip": ("1", "999"), "absent": ("1", "1")})
    (phrase,) = environment.untested_versions()
    assert phrase.startswith("python 3.")
    assert "(tested: 2.0 to 2.7)" in phrase
