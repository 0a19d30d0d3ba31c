"""docs/options.md is what the table of options gives."""

from pathlib import Path

from uwsgibridge.config.reference import render_reference


def test_the_page_is_what_the_table_gives():
    page = Path(__file__).parents[2] / "docs" / "options.md"
    assert page.read_text("utf-8") == render_reference(), (
        "write it anew: python -m uwsgibridge.config.reference > docs/options.md"
    )
