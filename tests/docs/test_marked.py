from pathlib import Path

import pytest

from fvnet_mm.errors import UserError


@pytest.fixture
def run(monkeypatch):
    """Runs a script that puts a text between the markers of a page; returns what it complains of, '' if nothing."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "docs")
    from marked import update_parts

    def call(page, *words, text="new", fault=None):
        def made():
            if fault:
                raise UserError(fault)
            return {(page, "table"): text}

        monkeypatch.setattr("sys.argv", ["script", *words])
        try:
            update_parts("A table.", "python docs/table.py", made)
        except SystemExit as stop:
            return str(stop.code)
        return ""

    return call


def test_writes_checks_and_keeps_the_rest(run, tmp_path):
    page = tmp_path / "page.md"
    stale = "before\n<!-- table:begin -->\nold\n<!-- table:end -->\nafter\n"
    page.write_text(stale)
    sentence = f"error: the part 'table' of {page} is stale; run: python docs/table.py"
    assert run(page, "--check") == sentence
    assert page.read_text() == stale
    assert run(page) == ""
    assert page.read_text() == stale.replace("old", "new")
    assert run(page, "--check") == ""
    assert run(page, text=r"\1") == ""  # no group of a pattern
    assert page.read_text() == stale.replace("old", r"\1")


@pytest.mark.parametrize("text", ["nothing here", "<!-- table:begin -->", 2 * "<!-- table:begin --><!-- table:end -->"])
def test_a_page_without_one_pair_of_markers(run, tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    assert f"error: {page} has {text.count('end')} pairs of markers" in run(page)
    assert page.read_text() == text


def test_what_cannot_be_made_is_said_and_leaves_the_page(run, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- table:begin --><!-- table:end -->")
    assert run(page, fault="no records") == "error: no records"
    assert page.read_text() == "<!-- table:begin --><!-- table:end -->"
