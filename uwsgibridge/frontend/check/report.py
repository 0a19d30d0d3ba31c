"""Writes findings for a person, as JSON, or as SARIF."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from uwsgibridge.frontend.check.checking import SYNTAX, SYNTAX_MEANS, Result
from uwsgibridge.frontend.check.finding import RULES, Severity
from uwsgibridge.frontend.check.probed import PROBE, PROBE_MEANS, probe_as_json, probe_as_text

if TYPE_CHECKING:
    from uwsgibridge.frontend.check.probe import Observed

FORM_VERSION: Final = 1
_SARIF_LEVELS: Final = {
    Severity.ERROR: "error",
    Severity.WARNING: "warning",
    Severity.NOTICE: "note",
}


def as_text(results: Sequence[Result], observed: Observed | None = None) -> str:
    """Give a line for each finding, in the form of compilers, and one with the line to write; first, what a probe has seen."""
    lines = []
    for result in results:
        for it in result.findings:
            lines.append(f"{it.file}:{it.line}: {it.severity.value}: {it.reason} [{it.rule}]")
            lines.append(f"    {it.write}")
    ways = sum(result.ways for result in results)
    counts = _count(results)
    shown = ", ".join(
        f"{number} {name}{'' if number == 1 else 's'}" for name, number in counts.items()
    )
    where = f"{ways} {'way leads' if ways == 1 else 'ways lead'} to an application"
    lines.append(f"{where}: {shown}")
    seen = "" if observed is None else probe_as_text(observed)
    return seen + "\n".join(lines) + "\n"


def as_json(results: Sequence[Result], observed: Observed | None = None) -> str:
    """Give one object: ``version``, ``files`` with ``file``, ``ways``, ``read``, ``findings``, and ``counts``.

    With a probe, it has ``probe`` as well.
    """
    document: dict[str, Any] = {
        "version": FORM_VERSION,
        "files": [
            {
                "file": result.file,
                "ways": result.ways,
                "read": list(result.files),
                "findings": [
                    {
                        "rule": it.rule,
                        "severity": it.severity.value,
                        "file": it.file,
                        "line": it.line,
                        "reason": it.reason,
                        "write": it.write,
                    }
                    for it in result.findings
                ],
            }
            for result in results
        ],
        "counts": _count(results),
    }
    if observed is not None:
        document["probe"] = probe_as_json(observed)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def as_sarif(results: Sequence[Result], version: str) -> str:
    """Give a log of SARIF 2.1.0 (OASIS), as code hosts show it beside the lines.

    Args:
        results: what came of each file.
        version: the bridge's.
    """
    rules: list[dict[str, Any]] = [
        {
            "id": rule.name,
            "shortDescription": {"text": rule.what.replace("`", "")},
            "defaultConfiguration": {"level": _SARIF_LEVELS[rule.severity]},
        }
        for rule in RULES.values()
    ]
    rules += [
        {
            "id": name,
            "shortDescription": {"text": means.replace("`", "")},
            "defaultConfiguration": {"level": "error"},
        }
        for name, means in ((SYNTAX, SYNTAX_MEANS), (PROBE, PROBE_MEANS))
    ]
    places = {rule["id"]: index for index, rule in enumerate(rules)}
    document = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "uwsgibridge nginx --check",
                        "version": version,
                        "rules": rules,
                    }
                },
                "results": [
                    {
                        "ruleId": it.rule,
                        "ruleIndex": places[it.rule],
                        "level": _SARIF_LEVELS[it.severity],
                        "message": {"text": f"{it.reason}. Write: {it.write}"},
                        "locations": [
                            {
                                "physicalLocation": {
                                    "artifactLocation": {"uri": _uri(it.file)},
                                    "region": {"startLine": it.line},
                                }
                            }
                        ],
                    }
                    for result in results
                    for it in result.findings
                ],
            }
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _uri(file: str) -> str:
    """Give a path relative to this directory where it is below it, as code hosts find it in a checkout."""
    path, here = Path(file), Path.cwd()
    return quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _count(results: Sequence[Result]) -> dict[str, int]:
    return {
        severity.value: sum(it.severity is severity for result in results for it in result.findings)
        for severity in Severity
    }
