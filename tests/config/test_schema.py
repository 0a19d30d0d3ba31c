"""docs/uwsgibridge.schema.json is what the table of options gives, and it judges files as `serve` does."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from uwsgibridge.cli.options import make_settings, settings_options
from uwsgibridge.config.options import Kind
from uwsgibridge.config.schema import make_schema, render_schema, tool_schema
from uwsgibridge.config.settings import OPTIONS
from uwsgibridge.config.units import parse_bytes, parse_seconds

FILE: Final = Path(__file__).parents[2] / "docs" / "uwsgibridge.schema.json"
SCHEMA: Final[dict[str, Any]] = json.loads(FILE.read_text("utf-8"))
VALIDATOR: Final = Draft7Validator(SCHEMA)

GOOD: Final = {
    "nothing": "",
    "the example of docs/options.md": """
        app = "mysite.wsgi:application"
        bind = ["unix:/run/app.sock"]
        graceful_timeout_seconds = 10
        access_log = true
    """,
    "units": """
        max_rss_bytes = "256M"
        max_body_bytes = "1.5 GiB"
        graceful_timeout_seconds = "500ms"
        request_timeout_seconds = "2m"
        lifespan_timeout_seconds = "90"
    """,
    "dashes": """
        graceful-timeout-seconds = 0.5
        max-body_bytes = 65536
    """,
    "a choice": 'loop = "trio"',
}
BAD: Final = {
    "no such option": "worker = 4",
    "no such option with dashes": "max-bodies = 4",
    "a number in quotes": 'threads = "8"',
    "one text for a list": 'bind = "unix:/run/app.sock"',
    "a text for a flag": 'access_log = "yes"',
    "no such choice": 'loop = "gevent"',
    "below the least": "threads = 0",
    "above the most": "workers = 1001",
    "below the least, with dashes": "lifespan-timeout-seconds = 0",
    "a unit that may be 1000 or 1024": 'max_rss_bytes = "64kB"',
    "a unit of other things": 'graceful_timeout_seconds = "30k"',
    "a flag for a number": "backlog = true",
    "a section": "[uwsgibridge]\nworkers = 4",
    "no text for the application": "app = 1",
}


def is_accepted_by_serve(text: str, directory: Path) -> bool:
    @click.command()
    @click.argument("app", required=False)
    @settings_options()
    def command(app: str | None, **values: Any) -> None:
        del app
        make_settings(values)

    file = directory / "uwsgibridge.toml"
    file.write_text(text)
    return CliRunner().invoke(command, ["--config", str(file)]).exit_code == 0


def test_the_file_is_what_the_table_gives() -> None:
    assert FILE.read_text("utf-8") == render_schema(), (
        "write it anew: python -m uwsgibridge.config.schema > docs/uwsgibridge.schema.json"
    )


def test_it_is_a_schema_that_needs_no_other_file() -> None:
    Draft7Validator.check_schema(SCHEMA)
    references = [it["$ref"] for it in SCHEMA["patternProperties"].values()]
    assert all(it.startswith("#/") for it in references)
    assert tool_schema("uwsgibridge") == make_schema()


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_a_file_that_serve_takes_is_valid(text: str, tmp_path: Path) -> None:
    assert is_accepted_by_serve(text, tmp_path)
    assert list(VALIDATOR.iter_errors(tomllib.loads(text))) == []


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_a_file_that_serve_refuses_is_invalid(text: str, tmp_path: Path) -> None:
    assert not is_accepted_by_serve(text, tmp_path)
    assert not VALIDATOR.is_valid(tomllib.loads(text))


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_has_a_description_and_a_default_that_is_valid(name: str) -> None:
    described = SCHEMA["properties"][name]
    assert described["description"]
    if "default" in described:
        assert VALIDATOR.is_valid({name: described["default"]})


def of_kind(kind: Kind) -> Draft7Validator:
    """Give what judges the value of an option of this kind; in text, it has no bounds."""
    name = next(name for name, it in OPTIONS.items() if it.kind is kind)
    return Draft7Validator(SCHEMA["properties"][name])


A_SIZE: Final = of_kind(Kind.BYTES)
A_TIME: Final = of_kind(Kind.SECONDS)


NUMBERS = st.from_regex(r"[0-9]{1,7}(\.[0-9]{1,3})? ?[A-Za-z]{0,3}", fullmatch=True)


@given(NUMBERS)
def test_units_of_bytes_are_those_that_the_program_reads(text: str) -> None:
    try:
        parse_bytes(text)
        is_read = True
    except ValueError as error:
        if "whole number" in str(error):  # such as 0.3k: a pattern can't tell
            return
        is_read = False
    assert A_SIZE.is_valid(text) == is_read


@given(NUMBERS)
def test_units_of_seconds_are_those_that_the_program_reads(text: str) -> None:
    try:
        parse_seconds(text)
        is_read = True
    except ValueError:
        is_read = False
    assert A_TIME.is_valid(text) == is_read
