"""The reference page of all options, from the one table.

``python -m uwsgibridge.config.reference > docs/options.md`` writes it anew; a test holds both equal.
"""

from __future__ import annotations

from itertools import groupby
from typing import Final

from uwsgibridge.config.options import Kind, Option, option_name
from uwsgibridge.config.settings import OPTIONS


def render_reference() -> str:
    """Write the page, in Markdown."""
    lines = [
        "# Options",
        "",
        "Each is an option of `uwsgibridge serve`, a key of `uwsgibridge.toml` (or of",
        "`[tool.uwsgibridge]` in `pyproject.toml`, named with `--config`) and a variable",
        "`UWSGIBRIDGE_<NAME>` of the environment. The command line goes before the environment, the",
        "environment before the file, the file before the default. `UWSGIBRIDGE_CONFIG` names the file as",
        "`--config` does. A variable with that prefix whose name is none of an option is refused, unless it is one of",
        "those that Kubernetes sets for a service of that name (`UWSGIBRIDGE_PORT`, `UWSGIBRIDGE_SERVICE_HOST`).",
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
        "`UWSGIBRIDGE_GRACEFUL_TIMEOUT_SECONDS` and `UWSGIBRIDGE_ACCESS_LOG=true`. What may have spaces itself",
        f"({_names_of_lines()}) stands there one to a line.",
        "",
        "A number of bytes may have a unit: `64k`, `256M`, `1.5G`, `1GiB`; a k is 1024, an M 1024 times that, and large",
        "and small letters are the same. `64kB` and the like are refused, since a kB is 1000 bytes for some programs and",
        "1024 for others. So may a number of seconds: `500ms`, `30s`, `2m`, `1h`, `1d`. In the file, what has a unit",
        'stands in quotes: `max_rss_bytes = "256M"`. Numbers have bounds. Times are at most 1,000,000,000 s; what is over',
        "a bound is refused with a sentence that says it.",
        "",
        "[uwsgibridge.schema.json](uwsgibridge.schema.json) is a JSON Schema of the file: with it, an editor completes and checks",
        "options, and shows what each does. Installed, it is `share/uwsgibridge/uwsgibridge.schema.json` of the environment, and",
        "`python -m uwsgibridge.config.schema` prints it. Taplo (`Even Better TOML`) and Tombi find it by the file's first line, and",
        "`validate-pyproject` by itself, for `[tool.uwsgibridge]`:",
        "",
        "```toml",
        "#:schema ./uwsgibridge.schema.json",
        "```",
    ]
    for section, rows in groupby(OPTIONS.items(), key=lambda row: row[1].section):
        lines += [
            "",
            f"## {section}",
            "",
            "| option | takes | default | what it does |",
            "|---|---|---|---|",
        ]
        lines += [_row(name, option) for name, option in rows]
    return "\n".join(lines) + "\n"


def _names_of_lines() -> str:
    return ", ".join(f"`{option_name(name)}`" for name, it in OPTIONS.items() if it.one_a_line)


_TAKES: Final = {
    Kind.WHOLE: "a whole number",
    Kind.BYTES: "bytes",
    Kind.SECONDS: "seconds",
    Kind.FLAG: "nothing",
    Kind.TEXT: "text",
    Kind.TEXTS: "text",
}


def _row(name: str, option: Option) -> str:
    if option.kind is Kind.CHOICE:
        takes = ", ".join(f"`{it}`" for it in option.choices)
    else:
        takes = f"`{option.metavar}`" if option.metavar else _TAKES[option.kind]
    shown = option.shown_default or _show(option.kind, option.default_value())
    return f"| `{option_name(name)}` | {takes} | {shown} | {option.description} |"


def _show(kind: Kind, default: object) -> str:
    if default == ():
        return "none"
    if kind is Kind.TEXTS:
        assert isinstance(default, tuple)
        return " ".join(f"`{item}`" for item in default)
    if kind is Kind.FLAG:
        return "on" if default else "off"
    return f"`{default}`"


if __name__ == "__main__":
    print(render_reference(), end="")  # noqa: T201 - this is the page
