"""Writes what was explained, for a person and for a program."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from uwsgibridge.explain.causes import CAUSES
from uwsgibridge.explain.gathering import Case, Gathered, Told

_WIDTH: Final = 100
_REQUESTS: Final = 5
_LABEL: Final = 11


def describe(gathered: Gathered) -> dict[str, Any]:
    """Give everything as what JSON can hold."""
    return {
        "cases": [_describe_case(it) for it in gathered.cases],
        "unknown": [
            {"message": text, "lines": count} for text, count in gathered.unknown.most_common()
        ],
        "lines": {
            "explained": gathered.explained,
            "unknown": gathered.unknown_lines,
            "passed_over": gathered.passed_over,
        },
    }


def as_text(gathered: Gathered) -> Iterator[str]:
    """Write everything for a person, line by line; times are those of the zone of the log."""
    for case in gathered.cases:
        yield from _text_of_case(case, gathered.zone)
        yield ""
    for text, count in gathered.unknown.most_common():
        yield f"{_times(count)}NOT KNOWN: {text}"
    if gathered.unknown:
        yield ""
    yield (
        f"{_lines(gathered.explained)} explained, {gathered.unknown_lines} not known, "
        f"{gathered.passed_over} passed over that tell of no failure."
    )


def _describe_case(case: Case) -> dict[str, Any]:
    told = _in_order(case)
    return {
        "name": case.entry.name,
        "log": case.entry.log,
        "lines": case.count,
        "first": _iso(case.first),
        "last": _iso(case.last),
        "longest_seconds": case.longest_seconds or None,
        "message": case.example,
        "upstream": case.upstream or None,
        "requests": [
            {"request": request, "lines": count}
            for request, count in case.requests.most_common(_REQUESTS)
        ],
        "client_sees": case.entry.client,
        "happened": case.entry.happened,
        "usual_cause": case.entry.why,
        "change": list(dict.fromkeys(CAUSES[it.event].change for it in told))
        or [case.entry.change],
        "lines_without_cause": case.untold,
        "in_error_log": [
            {"name": name, "lines": count} for name, count in case.in_error_log.most_common()
        ],
        "causes": [
            {
                "event": one.event,
                "lines": one.count,
                "time": _iso(one.first),
                "method": one.method or None,
                "path": one.path or None,
                "why": CAUSES[one.event].why,
                "change": CAUSES[one.event].change,
                **({"fields": one.fields} if one.fields else {}),
            }
            for one in told
        ],
    }


def _text_of_case(case: Case, zone: tzinfo | None) -> Iterator[str]:
    said = case.example if case.entry.log == "error" else case.entry.says
    yield f"{_times(case.count)}{said} [{case.entry.name}]"
    if case.first is not None and case.last is not None:
        first, last = (_local(it, zone) for it in (case.first, case.last))
        yield from _paragraph("when", first if first == last else f"{first} to {last}")
    if case.longest_seconds:
        yield from _paragraph("took", f"up to {case.longest_seconds:g} s")
    if case.upstream:
        yield from _paragraph("upstream", case.upstream)
    if case.requests:
        shown = [
            f"{request} ({count})" if count > 1 else request
            for request, count in case.requests.most_common(_REQUESTS)
        ]
        more = len(case.requests) - len(shown)
        yield from _paragraph("requests", ", ".join(shown) + (f" and {more} more" if more else ""))
    yield from _paragraph("client", case.entry.client)
    yield from _paragraph("happened", case.entry.happened)
    told = _in_order(case)
    for name, count in case.in_error_log.most_common():
        yield from _paragraph("see also", f"{name}, which the error log has, for {_lines(count)}")
    for one in told:
        where = f" of {one.method} {one.path}" if one.path else ""
        when = f" at {_local(one.first, zone)}" if one.first else ""
        yield from _paragraph("why", CAUSES[one.event].why)
        yield from _paragraph("our log", f"`{one.event}`{where}{when}, for {_lines(one.count)}")
        for name, value in one.fields.items():
            yield from _field(name, value)
    for change in dict.fromkeys(CAUSES[it.event].change for it in told):
        yield from _paragraph("change", change)
    if not told and case.in_error_log:
        return
    if told and case.untold:
        yield from _paragraph("else", f"nothing in our log for {_lines(case.untold)}")
    if not told or case.untold:
        yield from _paragraph("usually", case.entry.why)
        yield from _paragraph("change", case.entry.change)


def _in_order(case: Case) -> list[Told]:
    """Give what the bridge's log says of a case: as the entry has its causes, those that are surest first."""
    order = case.entry.causes
    return sorted(case.told.values(), key=lambda it: (order.index(it.event), -it.count))


def _field(name: str, value: object) -> Iterator[str]:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    first, *more = text.strip("\n").split("\n")
    if more:
        yield f"{' ' * _LABEL}{name}:"
        yield from (f"{' ' * _LABEL}  {it}" for it in (first, *more))
    else:
        yield f"{' ' * _LABEL}{name}: {first.strip()}"


def _paragraph(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"  {label:<{_LABEL - 2}}",
        subsequent_indent=" " * _LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _times(count: int) -> str:
    return f"{count} x " if count > 1 else ""


def _lines(count: int) -> str:
    return f"{count} line" if count == 1 else f"{count} lines"


def _iso(when: datetime | None) -> str | None:
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z") if when else None


def _local(when: datetime, zone: tzinfo | None) -> str:
    return when.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
