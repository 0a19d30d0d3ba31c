"""Writes the table of rules for docs/nginx-check.md: ``python -m uwsgibridge.frontend.check.reference``."""

from __future__ import annotations

from uwsgibridge.frontend.check.checking import SYNTAX, SYNTAX_MEANS, load_rules
from uwsgibridge.frontend.check.finding import RULES, Severity
from uwsgibridge.frontend.check.probed import PROBE, PROBE_MEANS


def table_lines() -> list[str]:
    """Write a row for each rule, in the order of the grounds."""
    load_rules()
    return [
        "| rule | severity | what is found |",
        "|---|---|---|",
        f"| `{SYNTAX}` | {Severity.ERROR.value} | {SYNTAX_MEANS} |",
        f"| `{PROBE}` | {Severity.ERROR.value} | {PROBE_MEANS} |",
        *(f"| `{it.name}` | {it.severity.value} | {it.what} |" for it in RULES.values()),
    ]


if __name__ == "__main__":
    print("\n".join(table_lines()))  # noqa: T201 - this is the table
