"""The page is a few minutes' counting: a sample is counted anew, all else is compared without counting."""

import re
from decimal import Decimal
from pathlib import Path

import mmpretrain
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "complexity.md"
SAMPLE = ("efficientformer_l3", "efficientformerv2_s2", "mobilenet_v2", "pvt_v2_b0", "repvit_m0_9", "resnet18")
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
    import claims

    assert set(claims.PUBLISHED_AS) == set(claims.trunks())
    shown = [(row[0].strip("`"), row[1], row[2].split()[0], row[4], row[-1]) for row in lines]
    known = []
    for claim in complexity.claims():
        quantity = "parameters" if claim.parameters else "MACs"
        subject, sources = claim.subject, "; ".join(claim.sources)
        known.append((subject.trunk, subject.framework, quantity, str(claim.published), sources))
    assert shown == known
    assert {row[0].strip("`") for row in lines} == set(claims.trunks())


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
            kinds = (complexity.ROUNDING, complexity.EXPLAINED, complexity.ERRATUM, complexity.NOT_EXPLAINED)
            assert row[6].startswith(kinds)
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
    corrected = sum(reason.startswith(complexity.ERRATUM) for reason in reasons)
    assert f"{corrected} were corrected by their authors since. {unexplained} are not explained." in text


def test_a_count_fits_what_rounds_to_it(complexity):
    subject = complexity.Subject("resnet18", "classification", (224, 224))
    claim = complexity.Claim(subject, False, Decimal("0.40"), ("a paper",))
    assert claim.miss(420_000_000) == pytest.approx(0.05)
    assert claim.fits(412_900_000)  # 0.405 rounds to 0.40, and 2 % of 0.40 are 0.008
    assert not claim.fits(413_100_000)
    assert complexity.Claim(subject, False, Decimal("0.4"), ("a paper",)).fits(457_900_000)


def test_a_way_to_count_must_give_what_is_related(complexity):
    """Without its classifier PVTv2-B0 has the published parameters, and B1 of the same table has not."""
    label = "without the classifier"
    (claim,) = [
        claim
        for claim in complexity.claims()
        if claim.subject.trunk == "pvt_v2_b0" and claim.parameters and claim.sources[0] in complexity.CORRECTED
    ]
    fitting, misfits = complexity._related(claim, label)
    assert [other.subject.trunk for other in fitting] == ["pvt_v2_b0"]
    assert [other.subject.trunk for other in misfits] == ["pvt_v2_b1"]
    assert complexity._exceptions(", but that", misfits).endswith("`pvt_v2_b1` (parameters) of this source")


def test_models_that_are_no_trunks_testify(complexity):
    import claims

    quantities = {(claim.subject.trunk, claim.parameters) for claim in complexity.witnesses()}
    assert quantities == {(name, parameters) for name in claims.WITNESSES for parameters in (True, False)}


def test_tables_of_a_paper_are_one_source(complexity):
    subject = complexity.Subject("resnet18", "classification", (224, 224))
    claims = [
        complexity.Claim(subject, True, Decimal(1), sources)
        for sources in (("A 1 Table 2",), ("B", "A 1 Tables 4/5"), ("B",))
    ]
    assert [complexity.same_source(claims[0], other) for other in claims] == [True, True, False]


def test_count_of_efficientformer_l3_is_mmpretrain_s_in_all_digits(complexity):
    import countings

    metafile = Path(mmpretrain.__file__).parent / ".mim" / "configs" / "efficientformer" / "metafile.yml"
    models = yaml.safe_load(metafile.read_text(encoding="utf-8"))["Models"]
    (stated,) = [model["Metadata"]["FLOPs"] for model in models if "-l3_" in model["Name"]]
    subject = countings.Subject("efficientformer_l3", countings.CLASSIFICATION, (224, 224))
    count = countings._macs_with_one_attention(subject)
    assert count - 2 * 512 * 1000 == stated  # but for the classifier and the one that learns from a teacher


def test_what_a_merged_fastvit_trains(complexity):
    """By the names of its parameters, where the page goes by modules."""
    import countings

    subject = countings.Subject("fastvit_t8", countings.CLASSIFICATION, (256, 256))
    sizes = {name: parameter.numel() for name, parameter in countings._merged("fastvit_t8").named_parameters()}
    large = re.compile(r"downsample\.proj\.0\.")
    left = {n: s for n, s in sizes.items() if large.search(n) or not re.search(r"reparam_conv|\.se\.|mlp\.conv", n)}
    assert countings._left_to_train(subject) == sum(left.values())
    assert {name.split(".")[-2] for name in left} == {"reparam_conv", "fc1", "fc2", "layer_scale", "fc"}


def test_binary_units(complexity):
    import countings

    class Counted(countings.Subject):
        counts = (3 * 2**20, 5 * 2**30)

    assert countings._in_binary_units(Counted("a", countings.CLASSIFICATION, (1, 1))) == (3_000_000, 5_000_000_000)


def test_page_without_markers(complexity):
    from marked import with_marked

    with pytest.raises(ValueError, match="has 0 pairs of markers"):
        with_marked("nothing here", "complexity", "| new |")
    begin, end = "<!-- complexity:begin -->", "<!-- complexity:end -->"
    new = with_marked(f"before\n{begin}\nold\n{end}\nafter\n", "complexity", "\n| \\1 |\n")
    assert new == f"before\n{begin}\n\n| \\1 |\n\n{end}\nafter\n"
