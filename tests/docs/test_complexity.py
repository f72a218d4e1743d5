"""The page is a few minutes' counting: a sample is counted anew, all else is compared without counting."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "complexity.md"
SAMPLE = ("efficientformerv2_s2", "mobilenet_v2", "pvt_v2_b0", "repvit_m0_9", "resnet18")
"""Trunks with whole models, of every kind of explanation."""


@pytest.fixture
def complexity(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import complexity

    return complexity


@pytest.fixture
def lines() -> list[list[str]]:
    """The cells of the rows against published counts."""
    text = PAGE.read_text(encoding="utf-8").split("## Against published counts")[1]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def test_every_trunk_and_every_claim_is_on_the_page(complexity, lines):
    assert set(complexity.PUBLISHED_AS) == set(complexity.trunks())
    shown = [(row[0].strip("`"), row[1], row[2].split()[0], row[4], row[-1]) for row in lines]
    known = []
    for claim in complexity.claims():
        quantity = "parameters" if claim.parameters else "MACs"
        subject, sources = claim.subject, "; ".join(claim.sources)
        known.append((subject.trunk, subject.framework, quantity, str(claim.published), sources))
    assert shown == known
    assert {row[0].strip("`") for row in lines} == set(complexity.trunks())


@pytest.mark.parametrize("trunk", SAMPLE)
def test_sample_is_current(complexity, trunk):
    page = PAGE.read_text(encoding="utf-8").splitlines()
    for claim in complexity.claims():
        if claim.subject.trunk == trunk:
            assert f"| {' | '.join(complexity.row(claim))} |" in page


def test_fvnet_is_current(complexity):
    page = PAGE.read_text(encoding="utf-8").splitlines()
    assert f"| {' | '.join(complexity.own_columns())} |" in page
    assert f"| {' | '.join(complexity.own_row('fvnet_s'))} |" in page
    assert all(any(line.startswith(f"| `{trunk}` |") for line in page) for trunk in complexity.OWN)


def test_differences_are_what_the_numbers_say_and_have_a_reason(complexity, lines):
    for row in lines:
        ours, published, difference = Decimal(row[3]), Decimal(row[4]), row[5]
        step = float(Decimal(1).scaleb(ours.as_tuple().exponent) / published)  # ours is rounded on the page
        assert float(difference.rstrip(" %")) / 100 == pytest.approx(float(ours / published) - 1, abs=step + 0.001)
        if abs(float(difference.rstrip(" %"))) > 100 * complexity.TOLERANCE:
            assert row[6].startswith((complexity.ROUNDING, complexity.EXPLAINED, complexity.NOT_EXPLAINED))
        else:
            assert not row[6]


def test_summary_is_the_table_s(complexity, lines):
    text = PAGE.read_text(encoding="utf-8")
    stated = re.search(r"Of (\d+) published .* meet (\d+) within 2 %, and (\d+) more", text)
    reasons = [row[6] for row in lines]
    rounded = sum(reason.startswith(complexity.ROUNDING) for reason in reasons)
    assert tuple(map(int, stated.groups())) == (len(reasons), reasons.count(""), rounded)
    explained = sum(reason.startswith(complexity.EXPLAINED) for reason in reasons)
    unexplained = sum(reason.startswith(complexity.NOT_EXPLAINED) for reason in reasons)
    assert f"{explained} were counted in another way" in text
    assert f"{unexplained} are not explained." in text


def test_a_count_fits_what_rounds_to_it(complexity):
    subject = complexity.Subject("resnet18", complexity.CLASSIFICATION, complexity.CLASSIFICATION_SHAPE)
    claim = complexity.Claim(subject, False, Decimal("0.40"), ("a paper",))
    assert claim.miss(420_000_000) == pytest.approx(0.05)
    assert claim.fits(412_900_000)  # 0.405 rounds to 0.40, and 2 % of 0.40 are 0.008
    assert not claim.fits(413_100_000)
    assert complexity.Claim(subject, False, Decimal("0.4"), ("a paper",)).fits(457_900_000)


def test_page_without_markers(complexity):

    with pytest.raises(ValueError, match="has 0 pairs of markers"):
        complexity.with_tables("nothing here", "| new |")
    marked = f"before\n{complexity.BEGIN}\nold\n{complexity.END}\nafter\n"
    new = complexity.with_tables(marked, r"| \1 |")
    assert new == f"before\n{complexity.BEGIN}\n\n| \\1 |\n\n{complexity.END}\nafter\n"
