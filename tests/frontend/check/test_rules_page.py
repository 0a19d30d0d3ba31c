"""The table in docs/nginx-check.md is the rules'."""

from __future__ import annotations

import re
from pathlib import Path

from uwsgibridge.frontend.check.checking import load_rules
from uwsgibridge.frontend.check.finding import RULES
from uwsgibridge.frontend.check.reference import table_lines

PAGE = Path(__file__).parents[3] / "docs/nginx-check.md"


def test_the_page_ends_with_the_table() -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    assert lines[lines.index(table_lines()[0]) :] == table_lines()


def test_names_are_words_and_each_says_what_it_finds() -> None:
    load_rules()
    for rule in RULES.values():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)
        assert rule.what.endswith("."), rule.name
        assert "|" not in rule.what, rule.name
