"""What an application may see of uWSGI's configuration: ``uwsgi.opt``, which workers get by a variable of the environment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from uwsgibridge.migration.plan import Finding, Plan, Setting, Verdict
from uwsgibridge.migration.uwsgi.command_line import COMMAND_LINE
from uwsgibridge.migration.uwsgi.option_names import OPTION_NAMES
from uwsgibridge.uwsgi_module.place import OPTIONS_VARIABLE, Value, write_options

# A template gets the variable in a message that has other things as well.
_MOST_BYTES: Final = 16_384


def pass_on(plan: Plan, settings: Sequence[Setting], *, is_started: bool) -> None:
    """Have the application find the module ``uwsgi`` with its options.

    Args:
        plan: gets the module and the variable.
        settings: in the order in which uWSGI applies them.
        is_started: whether the plan is run by this process. Where it is shown, only the values that are
            the application's own are written, so that a person sees them.
    """
    plan.values["uwsgi_module"] = True
    options = options_of(settings if is_started else _own(settings))
    text = write_options(options, is_all=is_started)
    while len(text.encode()) > _MOST_BYTES:
        longest = max(options, key=lambda name: len(name) + _size(options[name]))
        setting = next(it for it in reversed(settings) if it.name == longest)
        plan.findings.append(
            Finding(
                Verdict.WARNED, setting, "It is too long for uwsgi.opt, which lacks it.", longest
            )
        )
        del options[longest]
        text = write_options(options, is_all=is_started)
    if options:
        plan.environment[OPTIONS_VARIABLE] = text


def options_of(settings: Iterable[Setting]) -> dict[str, Value]:
    """Give what ``uwsgi.opt`` has of settings: of one that is given several times the last.

    A name without a value is an empty value in a file, and True on the command line.
    """
    options: dict[str, Value] = {}
    for setting in settings:
        if setting.value is None:
            options[setting.name] = True if setting.place == COMMAND_LINE else b""
        else:
            options[setting.name] = setting.value.encode()
    return options


def _own(settings: Iterable[Setting]) -> list[Setting]:
    return [it for it in settings if it.name not in OPTION_NAMES]


def _size(value: Value) -> int:
    return len(value) if isinstance(value, bytes) else 0
