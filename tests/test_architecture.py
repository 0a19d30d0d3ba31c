"""What docs/architecture.md says of the source is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_layers import BELOW

ROOT = Path(__file__).parents[1]
PAGES = ("docs/architecture.md", "CONTRIBUTING.md")


def test_each_file_that_is_named_is_there() -> None:
    named = {
        name
        for page in PAGES
        for name in re.findall(
            r"`(?:uwsgibridge/)?([a-z_/]+\.py)`", (ROOT / page).read_text("utf-8")
        )
    }
    assert len(named) > 30
    missing = {
        it for it in named if not any((ROOT / top / it).exists() for top in ("uwsgibridge", ""))
    }
    assert not missing


def test_each_room_is_listed_once_in_an_order_that_imports_keep() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    table = text.partition("## The rooms")[2].partition("\n## ")[0]
    rows = [
        re.findall(r"`([a-z_/]+?)(?:\.py|/)`", row.split("|")[1])
        for row in table.splitlines()
        if row.startswith("| `")
    ]
    rooms = [name.replace("/", ".") for row in rows for name in row]
    hidden = {"_version", "protocol.errors", "__main__"}
    assert sorted(rooms) == sorted(set(BELOW) - hidden)
    place = {name.replace("/", "."): number for number, row in enumerate(rows) for name in row}
    for room in rooms:
        upward = {it for it in BELOW[room] - hidden if place[it] > place[room]}
        assert not upward, f"{room} imports {upward}, which stand below it"


# Verbs that docs/architecture.md has for one thing alone, and where functions may have them in their names.
PLACES_OF_VERBS = {
    "abandon": (),
    "let_go": (),
    "give_up": ("hosts",),
    "release": ("hosts",),
    "leave": ("supervisor", "worker"),
}


@pytest.mark.parametrize("verb", sorted(PLACES_OF_VERBS))
def test_a_verb_of_the_glossary_is_said_of_its_one_thing(verb: str) -> None:
    elsewhere = [
        f"{path.name}: {name}"
        for path in sorted((ROOT / "uwsgibridge").rglob("*.py"))
        if path.relative_to(ROOT / "uwsgibridge").parts[0] not in PLACES_OF_VERBS[verb]
        for name in re.findall(r"\bdef (\w+)", path.read_text("utf-8"))
        if f"_{verb}_" in f"_{name}_"
    ]
    assert not elsewhere


@pytest.mark.parametrize("name", sorted(it.name for it in (ROOT / "changelog.d").iterdir()))
def test_fragments_of_the_changelog_have_a_name_that_towncrier_knows(name: str) -> None:
    kinds = "added|changed|deprecated|removed|fixed|security"
    assert name == "README.md" or re.fullmatch(rf"(\d+|\+[a-z0-9-]+)\.({kinds})\.md", name)
