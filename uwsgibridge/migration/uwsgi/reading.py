"""Reads a configuration of uWSGI as uWSGI does: its variables, its command line, its files.

The order is uWSGI's: variables of the environment, options of the command line, files of the command line that no
option names. What a file includes is read at once. Then placeholders are replaced, and then options are applied
in the order in which they were read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.plan import Finding, Place, Setting, Verdict
from uwsgibridge.migration.uwsgi.collector import Collector
from uwsgibridge.migration.uwsgi.command_line import COMMAND_LINE, read_arguments
from uwsgibridge.migration.uwsgi.item import Item
from uwsgibridge.migration.uwsgi.option_names import OPTION_NAMES

_PREFIX: Final = "UWSGI_"
# Those that uWSGI sets itself (parse_sys_envs in its core/utils.c).
_NO_OPTIONS: Final = frozenset(
    {
        "UWSGI_RELOADS", "UWSGI_VASSALS_DIR", "UWSGI_EMPEROR_FD", "UWSGI_BROODLORD_NUM",
        "UWSGI_EMPEROR_FD_CONFIG", "UWSGI_EMPEROR_PROXY", "UWSGI_JAIL_PID", "UWSGI_ORIGINAL_PROC_NAME",
    }
)  # fmt: skip
_LEFT_VARIABLE: Final = re.compile(r"\$\(([^()$]+)\)")
_BRACES: Final = re.compile(r"\$\{\w+\}")
_LEFT_OPTION: Final = re.compile(r"%\(([^()%]+)\)")
# Options whose values have ${ } and %( ) of their own, or that are applied at once by their nature.
_WITH_PLACEHOLDERS: Final = (
    "log", "req-logger", "route", "final-route", "error-route", "response-route", "set", "declare-option", "for", "if",
    "cron", "attach-daemon", "smart-attach-daemon",
)  # fmt: skip
_NAMED: Final = "uWSGI has no such option: it is a placeholder, which other lines name."
# Characters at the beginning and at the end of an error.
_MOST_SHOWN: Final = 400


class Reading(NamedTuple):
    """What was read.

    Attributes:
        settings: in the order in which uWSGI applies them, those that it applies at once among them.
        findings: what the reading has to say of some of them, in their order.
    """

    settings: list[Setting]
    findings: list[Finding]


def read_configuration(arguments: Sequence[str], environ: Mapping[str, str], start: str) -> Reading:
    """Read what uWSGI would.

    Args:
        arguments: of its command line, without its own name.
        environ: of the process.
        start: the directory that it is started in, an absolute path.

    Raises:
        ConfigurationError: it can't be read, or uWSGI would not start with it; the message has the place.
    """
    try:
        return _read(arguments, environ, start)
    except ConfigurationError as error:
        raise ConfigurationError(_one_line(str(error))) from None


def _one_line(message: str) -> str:
    """Make a message fit for a terminal, whatever a file has given it; its remedy is at its end."""
    if len(message) > 2 * _MOST_SHOWN:
        message = f"{message[:_MOST_SHOWN]} ... {message[-_MOST_SHOWN:]}"
    if message.isprintable():
        return message
    return "".join(it if it.isprintable() else ascii(it)[1:-1] for it in message)


def _read(arguments: Sequence[str], environ: Mapping[str, str], start: str) -> Reading:
    collector = Collector(environ, start)
    for name, value in environ.items():
        if name.startswith(_PREFIX) and name not in _NO_OPTIONS:
            option = name.removeprefix(_PREFIX).lower().replace("_", "-")
            collector.add(option, value, Place(f"the variable {name}"))
    for argument in read_arguments(arguments, collector.custom):
        if argument.name is None:
            collector.load_by_ending(argument.value or "", COMMAND_LINE)
        else:
            collector.add(argument.name, argument.value, COMMAND_LINE)
    items = collector.finish()
    settings = []
    findings = []
    for item in items:
        if item.is_placeholder:
            continue
        setting = Setting(
            item.name,
            None if item.is_bare else item.value,
            item.place,
            item.is_named,
            item.variables,
        )
        _check_text(setting)
        settings.append(setting)
        notes = item.notes
        if item.is_named and item.name not in OPTION_NAMES:
            notes = [*notes, (Verdict.PASSED_OVER, _NAMED, item.name)]
        if item.value is not None and ("$" in item.value or "%(" in item.value):
            notes = notes + _leftovers(item, environ)
        findings += [Finding(verdict, setting, text, group) for verdict, text, group in notes]
    return Reading(settings, findings)


def _check_text(setting: Setting) -> None:
    text = setting.name if setting.value is None else setting.name + setting.value
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"{setting.place}: {setting.name!a} has bytes that are no UTF-8; write the file in UTF-8"
        ) from None


def _leftovers(item: Item, environ: Mapping[str, str]) -> list[tuple[Verdict, str, str]]:
    """Warn of placeholders that are still there."""
    if item.name.startswith(_WITH_PLACEHOLDERS):
        return []
    value = item.value or ""
    texts = []
    for name in dict.fromkeys(_LEFT_VARIABLE.findall(value)):
        if name not in environ:
            texts.append(f"The variable {name} is not set, and uWSGI leaves $({name}) as it is.")
        else:
            texts.append(
                f"uWSGI applies this before it replaces placeholders: $({name}) stays as it is."
            )
    texts += [
        f"uWSGI does not know {written}, and leaves it as it is; a variable is $({written[2:-1]})."
        for written in dict.fromkeys(_BRACES.findall(value))
    ]
    for name in dict.fromkeys(_LEFT_OPTION.findall(value)):
        why = (
            "uWSGI applies this before it replaces placeholders"
            if item.is_done
            else f"There is no {name}"
        )
        texts.append(f"{why}: %({name}) stays as it is.")
    return [(Verdict.WARNED, text, item.name) for text in texts]
