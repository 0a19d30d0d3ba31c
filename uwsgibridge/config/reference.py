"""The reference page of all options, from the one table.

``python -m uwsgibridge.config.reference > docs/options.md`` writes it anew; a test holds both equal.
"""

from __future__ import annotations

import dataclasses
from itertools import groupby

from uwsgibridge.config.settings import CHOICES, Settings, option_name


def render_reference() -> str:
    """Write the page, in Markdown."""
    lines = [
        "# Options",
        "",
        "Each is an option of `uwsgibridge serve`, a key of `uwsgibridge.toml` (or of",
        "`[tool.uwsgibridge]` in `pyproject.toml`, named with `--config`) and a variable",
        "`UWSGIBRIDGE_<NAME>` of the environment. The command line goes before the environment, the",
        "environment before the file, the file before the default. `UWSGIBRIDGE_CONFIG` names the file as",
        "`--config` does. A variable whose name is almost that of an option is refused.",
        "",
        "In the file, dashes are underscores, what is repeatable is a list, and what takes nothing is true or",
        "false (`--no-...` on the command line):",
        "",
        "```toml",
        'app = "mysite.wsgi:application"',
        'bind = ["unix:/run/app.sock"]',
        "graceful_timeout_seconds = 10",
        "access_log = true",
        "```",
        "",
        "In the environment, that is `UWSGIBRIDGE_APP`, `UWSGIBRIDGE_BIND` (several with spaces between them),",
        "`UWSGIBRIDGE_GRACEFUL_TIMEOUT_SECONDS` and `UWSGIBRIDGE_ACCESS_LOG=true`.",
        "",
        "Numbers have no unit: 30, not `30s`; 536870912, not `512M`. They have bounds. Times are at most",
        "1,000,000,000 s; what is over a bound is refused with a sentence that says it.",
    ]
    for section, rows in groupby(
        dataclasses.fields(Settings), key=lambda one: one.metadata["section"]
    ):
        lines += [
            "",
            f"## {section}",
            "",
            "| option | takes | default | what it does |",
            "|---|---|---|---|",
        ]
        lines += [_row(one) for one in rows]
    return "\n".join(lines) + "\n"


def _row(one: dataclasses.Field[object]) -> str:
    default = getattr(Settings(), one.name)
    kind = str(one.type)
    if kind in CHOICES:
        takes = ", ".join(f"`{choice}`" for choice in CHOICES[kind])
    elif one.metadata["metavar"]:
        takes = f"`{one.metadata['metavar']}`"
    else:
        takes = {"int": "a whole number", "float": "seconds", "bool": "nothing"}.get(kind, "text")
    if one.metadata["shown_default"]:
        shown = one.metadata["shown_default"]
    elif isinstance(default, tuple):
        shown = " ".join(f"`{item}`" for item in default) or "none"
    else:
        shown = {True: "on", False: "off"}[default] if isinstance(default, bool) else f"`{default}`"
    if default == "":
        shown = "none"
    return f"| `{option_name(one.name)}` | {takes} | {shown} | {one.metadata['help']} |"


if __name__ == "__main__":
    print(render_reference(), end="")  # noqa: T201 - this is the page
