"""Turns settings of gunicorn into a plan, a row of the table for each setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from uwsgibridge.config.options import Kind, option_name
from uwsgibridge.config.settings import OPTIONS
from uwsgibridge.migration.argument import as_argument
from uwsgibridge.migration.gunicorn.given import Given, Reading
from uwsgibridge.migration.gunicorn.known_settings import SETTINGS
from uwsgibridge.migration.gunicorn.worker_class import WorkerKind
from uwsgibridge.migration.plan import Finding, Plan, Verdict


class Translation:
    """The plan as it comes to be, and what the rows of the table need to know.

    Args:
        reading: of gunicorn's configuration, in its portable form.
        kind: of the worker that gunicorn would take, without what is left out.
        has_inherited_sockets: whether systemd has opened listening sockets.
    """

    def __init__(
        self, reading: Reading, *, kind: WorkerKind, has_inherited_sockets: bool = False
    ) -> None:
        self.reading = reading
        self.kind = kind
        self.has_inherited_sockets = has_inherited_sockets
        self.plan = Plan()

    def value(self, name: str) -> Any:
        """Give the value that counts for a setting."""
        return self.reading.value(name)

    def is_given(self, name: str) -> bool:
        """Whether somebody has given a setting."""
        return self.reading.find(name) is not None

    def map(self, given: Given, **values: Any) -> None:
        """Set options; a list takes its items in addition to what is there."""
        shown = []
        for name, value in values.items():
            is_list = OPTIONS[name].kind is Kind.TEXTS
            shown += [as_argument(name, one) for one in (value if is_list else (value,))]
        self.set(given, " ".join(shown), **values)

    def set(self, given: Given, text: str, **values: Any) -> None:
        """Do the same, with a finding that says so in words."""
        for name, value in values.items():
            is_list = OPTIONS[name].kind is Kind.TEXTS
            if is_list:
                value = (*self.plan.values.get(name, ()), *value)  # noqa: PLW2901 - it takes its place
            self.plan.values[name] = value
            self.plan.note_origin(name, given.setting, adds=is_list)
        self.find(Verdict.MAPPED, given, text)

    def find(self, verdict: Verdict, given: Given, text: str) -> None:
        """Add a finding."""
        known = SETTINGS.get(given.name)
        group = given.name.replace("_", "-") if known is None else known.group
        self.plan.findings.append(Finding(verdict, given.setting, text, group))

    def pass_over(self, given: Given, text: str) -> None:
        self.find(Verdict.PASSED_OVER, given, text)

    def warn(self, given: Given, text: str) -> None:
        self.find(Verdict.WARNED, given, text)

    def refuse(self, given: Given, text: str) -> None:
        self.find(Verdict.REFUSED, given, text)


Translate: TypeAlias = Callable[[Translation, "Row", Given], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What becomes of one setting of gunicorn.

    Attributes:
        name: of the setting, in a configuration file.
        verdict: what usually becomes of it, for the documentation.
        text: what it becomes here, or why it is passed over, warned of or refused. For the last two, what to do
            instead.
        translate: what happens with the value that counts.
    """

    name: str
    verdict: Verdict
    text: str
    translate: Translate


# Functions that make rows. `names` has the names of settings with spaces between them.


def passed_over(names: str, text: str) -> tuple[Row, ...]:
    """Make the rows of what needs nothing here."""
    return _rows_of_verdict(names, Verdict.PASSED_OVER, text)


def warned(names: str, text: str) -> tuple[Row, ...]:
    """Make the rows of what goes on without."""
    return _rows_of_verdict(names, Verdict.WARNED, text)


def refused(names: str, text: str) -> tuple[Row, ...]:
    """Make the rows of what can't go on without."""
    return _rows_of_verdict(names, Verdict.REFUSED, text)


def _rows_of_verdict(names: str, verdict: Verdict, text: str) -> tuple[Row, ...]:
    def translate(translation: Translation, row: Row, given: Given) -> None:
        known = SETTINGS[row.name]
        if row.verdict is not Verdict.PASSED_OVER and not given.value:
            translation.pass_over(given, "It is off.")
        elif row.verdict is not Verdict.PASSED_OVER and given.value == known.default:
            translation.pass_over(given, "It is gunicorn's default.")
        else:
            translation.find(row.verdict, given, row.text)

    return tuple(
        Row(name=name, verdict=verdict, text=text, translate=translate) for name in names.split()
    )


def mapped(name: str, text: str, translate: Translate) -> tuple[Row, ...]:
    """Make the row of a setting with a translation of its own."""
    return (Row(name=name, verdict=Verdict.MAPPED, text=text, translate=translate),)


def flag(name: str, field: str) -> tuple[Row, ...]:
    """Make the row of a flag that is a flag here."""

    def translate(translation: Translation, row: Row, given: Given) -> None:
        del row
        if given.value:
            translation.map(given, **{field: True})
        else:
            translation.pass_over(given, "It is off.")

    return mapped(name, f"`{option_name(field)}`", translate)


def number(name: str, field: str, *, least: int = 0) -> tuple[Row, ...]:
    """Make the row of a number that is the same here, but for what is below the least value."""

    def translate(translation: Translation, row: Row, given: Given) -> None:
        del row
        is_time = OPTIONS[field].kind is Kind.SECONDS
        value = max(given.value, least)
        translation.map(given, **{field: float(value) if is_time else value})

    return mapped(name, f"`{option_name(field)}`", translate)


def text(name: str, field: str) -> tuple[Row, ...]:
    """Make the row of a text that is the same here; without a value it is off."""

    def translate(translation: Translation, row: Row, given: Given) -> None:
        del row
        if given.value:
            translation.map(given, **{field: given.value})
        else:
            translation.pass_over(given, "It is off.")

    return mapped(name, f"`{option_name(field)}`", translate)
