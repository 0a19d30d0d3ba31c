"""docs/options.md is what the table of options gives."""

from pathlib import Path

from uwsgibridge.config.options import Kind
from uwsgibridge.config.reference import render_reference
from uwsgibridge.config.settings import OPTIONS


def test_the_page_is_what_the_table_gives():
    page = Path(__file__).parents[2] / "docs" / "options.md"
    assert page.read_text("utf-8") == render_reference(), (
        "write it anew: python -m uwsgibridge.config.reference > docs/options.md"
    )


def test_a_default_of_none_is_an_empty_list_and_never_says_that_something_is_off():
    none = [
        line.split("|")[1].strip(" `")
        for line in render_reference().splitlines()
        if "| none |" in line
    ]
    lists = {
        "--" + name.replace("_", "-")
        for name, option in OPTIONS.items()
        if option.kind is Kind.TEXTS
    }
    assert none
    assert set(none) <= lists
    assert "--touch-reload" not in none


def test_no_default_is_an_empty_text():
    assert "| `` |" not in render_reference(), "say in shown_default what holds where none is given"
