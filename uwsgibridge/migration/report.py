"""Writes a plan for people: what each line becomes, the same as a command, as TOML, and what Nginx needs.

A start needs little of it, and imports nothing that only `explain` and ``convert`` need.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from uwsgibridge.config.options import Kind, option_name
from uwsgibridge.config.settings import OPTIONS
from uwsgibridge.migration.argument import written_number
from uwsgibridge.migration.hidden_values import shown_value
from uwsgibridge.migration.plan import Finding, Plan, Verdict

_WIDTH: Final = 100
_LONGEST_LINE: Final = 44

_MARKS: Final = {
    Verdict.MAPPED: "->",
    Verdict.PASSED_OVER: "ok",
    Verdict.WARNED: "!!",
    Verdict.REFUSED: "NO",
}


def describe_refusals(plan: Plan) -> str:
    """Name every line that is refused, each with its reason, in one message; empty where there is none."""
    return _describe_refused(
        plan,
        one="one line stands in the way, and nothing was started:",
        several="lines stand in the way, and nothing was started:",
        remedy="To start without:",
    )


def describe_left_out(plan: Plan) -> str:
    """Name every line that is refused, for who has written the others; empty where there is none."""
    return _describe_refused(
        plan,
        one="one line has nothing like it here, and is left out:",
        several="lines have nothing like them here, and are left out:",
        remedy="When that is settled:",
    )


def _describe_refused(plan: Plan, *, one: str, several: str, remedy: str) -> str:
    found = plan.of(Verdict.REFUSED)
    if not found:
        return ""
    lines = [f"  {it.setting.place}: {it.setting}: {it.text}" for it in found]
    names = " ".join(dict.fromkeys(f"--ignore {it.group}" for it in found))
    head = one if len(found) == 1 else f"{len(found)} {several}"
    return "\n".join([head, *lines, f"{remedy} {names}"])


def describe_warnings(plan: Plan) -> list[str]:
    """Write a line for each warning."""
    return [f"{one.setting.place}: {one.setting}: {one.text}" for one in plan.of(Verdict.WARNED)]


def explain(plan: Plan) -> str:
    """Say what each line becomes, and what the whole is as a command, as TOML, and in Nginx."""
    parts = [
        _summary(plan),
        "What each line becomes (-> an option here, ok nothing is needed, !! a difference, NO refused):",
        *_table(plan.findings),
        "",
        "The same as a command:",
        "",
        *_indented(command_lines(plan)),
        "",
        "The same as uwsgibridge.toml:",
        "",
        *_indented(toml_lines(plan)),
    ]
    return "\n".join(parts) + "\n"


def _summary(plan: Plan) -> str:
    """Say in one line what a reader of the table looks for."""
    refused, warned = (
        len({id(it.setting) for it in plan.of(verdict)})
        for verdict in (Verdict.REFUSED, Verdict.WARNED)
    )
    if refused:
        start = (
            f"It does not start: {refused} {'line is' if refused == 1 else 'lines are'} refused."
        )
    else:
        start = "It runs as it is."
    if warned:
        start += f" {warned} {'line has' if warned == 1 else 'lines have'} a warning."
    return start


def _table(findings: Iterable[Finding]) -> list[str]:
    import textwrap

    rows = [(str(it.setting.place), str(it.setting), it) for it in findings]
    place_width = max((len(place) for place, _, _ in rows), default=0)
    line_width = min(max((len(line) for _, line, _ in rows), default=0), _LONGEST_LINE)
    table = []
    for place, line, finding in rows:
        start = f"  {place:{place_width}}  {line:{line_width}}  {_MARKS[finding.verdict]} "
        if len(line) > line_width:
            table.append(f"  {place:{place_width}}  {line}")
            start = " " * (place_width + line_width + 6) + f"{_MARKS[finding.verdict]} "
        room = max(_WIDTH - len(start), 40)
        pieces = textwrap.wrap(finding.text, room, break_long_words=False, break_on_hyphens=False)
        table += [
            (start if index == 0 else " " * len(start)) + piece
            for index, piece in enumerate(pieces or [""])
        ]
    return table


def command_arguments(plan: Plan) -> list[list[str]]:
    """Give the arguments of ``uwsgibridge serve``, those that belong together in one list."""
    groups = [["uwsgibridge", "serve", *([plan.app] if plan.app else [])]]
    for name, value in _in_order(plan):
        option = option_name(name)
        if OPTIONS[name].kind is Kind.FLAG:
            groups.append([option if value else f"--no-{option.removeprefix('--')}"])
        else:
            groups += [[option, one] for one in _texts(name, value)]
    return groups


def command_lines(plan: Plan) -> list[str]:
    """Write the command, with a line for each option, ready to be pasted into a shell."""
    import shlex

    lines = [shlex.join(group) for group in [*_environment(plan), *command_arguments(plan)]]
    return [f"{'' if index == 0 else '    '}{line}{'' if index == len(lines) - 1 else ' ' + chr(92)}"
            for index, line in enumerate(lines)]  # fmt: skip


def _environment(plan: Plan) -> list[list[str]]:
    """Give what sets and removes variables of the environment for a command, a list for each."""
    if not plan.environment:
        return []
    groups = [["-u", name] for name, value in plan.environment.items() if value is None]
    groups += [
        [f"{name}={shown_value(name, value)}"]
        for name, value in plan.environment.items()
        if value is not None
    ]
    return [["env", *groups[0]], *groups[1:]]


def toml_lines(plan: Plan, *, with_comments: bool = False) -> list[str]:
    """Write the options as TOML.

    Args:
        plan: what to write.
        with_comments: whether each option says which line it comes from, and what is not carried over.
    """
    import shlex
    import textwrap

    lines = []
    if plan.app:
        lines.append(_with_origin(plan, "app", f"app = {_quoted(plan.app)}", with_comments))
    for name, value in _in_order(plan):
        lines.append(_with_origin(plan, name, f"{name} = {_toml(name, value)}", with_comments))
    for variable, text in plan.environment.items():
        lines.append(
            f"# without the variable {variable}"
            if text is None
            else f"# with the variable {variable}={shlex.quote(shown_value(variable, text))}"
        )
    if with_comments:
        left = [*plan.of(Verdict.REFUSED), *plan.of(Verdict.WARNED)]
        lines += [
            piece
            for one in left
            for piece in textwrap.wrap(
                f"{one.setting.place}: {one.setting}: {one.text}",
                _WIDTH,
                initial_indent="# ",
                subsequent_indent="#   ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        ]
    return lines


def _with_origin(plan: Plan, name: str, line: str, wanted: bool) -> str:
    origins = plan.origins_of(name)
    if not wanted or not origins:
        return line
    told = "; ".join(f"{it.place}: {' '.join(str(it).split())}" for it in origins)
    return f"{line}  # {told}"


def _in_order(plan: Plan) -> Iterable[tuple[str, Any]]:
    return ((name, plan.values[name]) for name in OPTIONS if name in plan.values)


def _texts(name: str, value: Any) -> list[str]:
    if isinstance(value, tuple):
        return [str(one) for one in value]
    return [str(value) if isinstance(value, str) else written_number(name, value)]


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else str(value)


def _toml(name: str, value: Any) -> str:
    if OPTIONS[name].kind is Kind.TEXTS:
        return f"[{', '.join(_quoted(one) for one in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _number(value)
    return str(value) if isinstance(value, int) else _quoted(value)


def _quoted(text: str) -> str:
    """Write a text in quotes; JSON's escapes are TOML's as well, but for DEL."""
    import json

    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]
