"""Looks at what a plan would write into a file of our own: values that no option takes, and values of the environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uwsgibridge.config.options import Kind, option_name
from uwsgibridge.config.settings import OPTIONS
from uwsgibridge.errors import SettingsError
from uwsgibridge.migration.argument import as_argument
from uwsgibridge.migration.plan import Finding, Plan, Setting, Verdict


def refuse_values(plan: Plan) -> None:
    """Refuse each value that breaks a rule of its option, in place of setting the option."""
    for name in list(plan.values):
        value = plan.values[name]
        is_list = OPTIONS[name].kind is Kind.TEXTS
        for one in value if is_list else (value,):
            try:
                OPTIONS[name].check(option_name(name), (one,) if is_list else one)
            except SettingsError as error:
                _refuse(plan, name, one, str(error))


def _refuse(plan: Plan, name: str, value: Any, message: str) -> None:
    mapped = _mapped(plan, name, value)
    setting = mapped.setting if mapped else plan.origins.get(name)
    if setting is None:
        return
    refusal = Finding(
        Verdict.REFUSED,
        setting,
        f"{message}{_bounds(name)}.",
        mapped.group if mapped else setting.name,
    )
    if mapped:
        plan.findings[plan.findings.index(mapped)] = refusal
    else:
        plan.findings.append(refusal)
    is_list = OPTIONS[name].kind is Kind.TEXTS
    if rest := tuple(it for it in plan.values[name] if it != value) if is_list else ():
        plan.values[name] = rest
    else:
        del plan.values[name]
        plan.origins.pop(name, None)


def _mapped(plan: Plan, name: str, value: Any) -> Finding | None:
    """Find the line that a value comes from."""
    written = as_argument(name, value)
    return next((it for it in plan.of(Verdict.MAPPED) if f" {written} " in f" {it.text} "), None)


def _bounds(name: str) -> str:
    """Tell both bounds of a number, of which a message has one."""
    option = OPTIONS[name]
    if not option.kind.is_number:
        return ""
    return f"; it takes {option.least} to {option.most}"


def warn_of_variables(plan: Plan) -> None:
    """Warn of values that are made of variables of the environment, since a file keeps what they are now."""
    by_line: dict[Setting, list[str]] = {}
    for name in plan.origins:
        is_written = name in plan.values or (name == "app" and plan.app is not None)
        for setting in plan.origins_of(name) if is_written else ():
            if setting.variables:
                by_line.setdefault(setting, []).append(name)
    for setting, names in by_line.items():
        variables = (
            f"variable{'s' if len(setting.variables) > 1 else ''} {_listed(setting.variables)}"
        )
        ours = _listed([f"UWSGIBRIDGE_{it.upper()}" for it in names])
        plan.findings.append(
            Finding(
                Verdict.WARNED,
                setting,
                f"It depends on the {variables} of the environment, and is written as it is now: where that differs at the "
                f"start, set {ours}, which goes before the file.",
                setting.name,
            )
        )


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
