"""The file of the last figures, and the table of new ones beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.instructions.counting import BURSTS, Count
from benchmarks.instructions.figures import (
    FILE,
    Figures,
    differences,
    format_comparison,
    merged,
    read,
    write,
)
from benchmarks.instructions.scenarios import SCENARIOS

ENVIRONMENT = {"Python": "3.11.7", "trio": "0.30.0"}


def test_what_is_written_is_read_again(directory: Path) -> None:
    file = directory / "figures.toml"
    write(file, Figures(ENVIRONMENT, {("wsgi-1", 16): 189_123.4, ("wsgi-1", 1): 277_000.0}))
    assert read(file) == Figures(ENVIRONMENT, {("wsgi-1", 16): 189_123, ("wsgi-1", 1): 277_000})


@pytest.mark.parametrize("text", ["", "[environment", "environment = 1", "[environment]\n[x]\na=1"])
def test_a_file_of_another_form_is_an_error(text: str, directory: Path) -> None:
    file = directory / "figures.toml"
    file.write_text(text)
    with pytest.raises(BenchmarkError, match="can't be read"):
        read(file)


def test_the_committed_figures_are_of_every_scenario() -> None:
    assert set(read(FILE).instructions) == {
        (scenario.name, burst) for scenario in SCENARIOS for burst in BURSTS
    }


def test_figures_of_some_scenarios_replace_those_of_the_same_versions() -> None:
    old = Figures(ENVIRONMENT, {("wsgi-1", 16): 1.0, ("trio", 16): 2.0})
    new = Figures(ENVIRONMENT, {("wsgi-8", 16): 4.0, ("trio", 16): 3.0})
    assert list(merged(old, new).instructions.items()) == [
        (("wsgi-1", 16), 1.0),
        (("wsgi-8", 16), 4.0),
        (("trio", 16), 3.0),
    ]


def test_figures_of_different_versions_are_not_mixed() -> None:
    old = Figures(ENVIRONMENT, {("wsgi-1", 16): 1.0})
    other = {**ENVIRONMENT, "trio": "0.31.0"}
    with pytest.raises(BenchmarkError, match=r"trio 0\.30\.0, not 0\.31\.0"):
        merged(old, Figures(other, {("trio", 16): 1.0}))
    assert merged(old, Figures(other, {("wsgi-1", 16): 5.0})).environment == other


def test_versions_that_differ_are_named() -> None:
    assert differences(ENVIRONMENT, ENVIRONMENT) == []
    assert differences({"trio": "1", "uvloop": "2"}, {"trio": "1"}) == ["uvloop 2, not missing"]


def test_the_table_has_a_ratio_where_there_is_an_earlier_figure() -> None:
    table = format_comparison(
        Figures(ENVIRONMENT, {("trio", 16): 200_000.0}),
        [Count("trio", 16, 150_000.0, 0.004), Count("trio", 1, 400_000.0, 0.0)],
        {"trio": "ASGI"},
        before_is="last",
    )
    first, second = (line.split() for line in table.splitlines()[2:])
    assert first == ["trio", "ASGI", "16", "at", "once", "200,000", "150,000", "0.750", "0.4%"]
    assert second == ["trio", "ASGI", "one", "at", "a", "time", "-", "400,000", "-", "0.0%"]
