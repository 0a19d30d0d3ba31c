"""The JSON Schema of a file of options, from the one table: editors complete and check `uwsgibridge.toml` by it.

``python -m uwsgibridge.config.schema > docs/uwsgibridge.schema.json`` writes it anew; a test holds both equal.

Its form is that of SchemaStore: draft 7, a description for each key, and nothing that a reader has to fetch.
"""

from __future__ import annotations

import json
from typing import Any, Final

from uwsgibridge.config.options import Kind, Option
from uwsgibridge.config.settings import OPTIONS

# A name, as SchemaStore gives one to each of its schemas; nothing is fetched from there.
_ID: Final = "https://json.schemastore.org/uwsgibridge.json"

# What `uwsgibridge.config.units` reads. A number without a unit may stand in quotes as well.
_BYTES: Final = r"^[0-9]+ ?$|^[0-9]{1,15}(\.[0-9]{1,9})? ?([bB]|[kKmMgGtT]([iI][bB]?)?)$"
_SECONDS: Final = r"^[0-9]+(\.[0-9]+)? ?$|^[0-9]{1,15}(\.[0-9]{1,9})? ?(ms|s|sec|m|min|h|d)$"


def make_schema() -> dict[str, Any]:
    """Make the schema of `uwsgibridge.toml`, and of `[tool.uwsgibridge]` in `pyproject.toml`.

    What a rule of an option says beyond types, choices and bounds is not in it: `uwsgibridge serve` tells that.

    Returns:
        What a writer of JSON takes.
    """
    app = {
        "description": "The application: module:attribute or path/file.py:attribute.",
        "type": "string",
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": _ID,
        "title": "uwsgibridge",
        "description": "Options of uwsgibridge serve: uwsgibridge.toml, or [tool.uwsgibridge] in pyproject.toml.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "app": app,
            **{name: _describe(option) for name, option in OPTIONS.items()},
        },
        # The file may have the command line's dashes.
        "patternProperties": {
            f"^{name.replace('_', '[-_]')}$": {"$ref": f"#/properties/{name}"}
            for name in OPTIONS
            if "_" in name
        },
    }


def tool_schema(tool_name: str) -> dict[str, Any]:
    """Give validate-pyproject the schema of `[tool.uwsgibridge]`, as its entry point asks for it.

    Args:
        tool_name: the table below `[tool]`.
    """
    assert tool_name == "uwsgibridge"
    return make_schema()


def render_schema() -> str:
    """Write the schema as text."""
    return json.dumps(make_schema(), indent=2, ensure_ascii=False) + "\n"


def _describe(option: Option) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": option.description,
        **_values(option),
    }
    # The default of some is known only where the program runs.
    if not callable(option.default) and option.default_variable is None:
        default = option.default
        described["default"] = list(default) if option.kind is Kind.TEXTS else default
    return described


def _values(option: Option) -> dict[str, Any]:
    match option.kind:
        case Kind.FLAG:
            return {"type": "boolean"}
        case Kind.TEXT:
            return {"type": "string"}
        case Kind.TEXTS:
            return {"type": "array", "items": {"type": "string"}}
        case Kind.CHOICE:
            return {"type": "string", "enum": list(option.choices)}
        case Kind.WHOLE:
            return _number("integer", option)
        case Kind.BYTES:
            return _with_unit("integer", _BYTES, option)
        case Kind.SECONDS:
            return _with_unit("number", _SECONDS, option)


def _number(kind: str, option: Option) -> dict[str, Any]:
    return {"type": kind, "minimum": option.least, "maximum": option.most}


def _with_unit(kind: str, pattern: str, option: Option) -> dict[str, Any]:
    return {"anyOf": [_number(kind, option), {"type": "string", "pattern": pattern}]}


if __name__ == "__main__":
    print(render_schema(), end="")  # noqa: T201 - this is the schema
