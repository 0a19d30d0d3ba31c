"""Turns settings of uWSGI into a plan, a row of the table for each option."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from uwsgibridge.config.options import Kind, option_name
from uwsgibridge.config.settings import OPTIONS
from uwsgibridge.migration.argument import as_argument
from uwsgibridge.migration.plan import Finding, Plan, Setting, Verdict
from uwsgibridge.migration.uwsgi.meaning import has_comment, is_plain_number, is_true, number

MIB: Final = 1024 * 1024


class Translation:
    """The plan as it comes to be, and what the rows of the table need to know.

    Args:
        settings: of uWSGI, in the order in which it applies them.
        start: the directory that the process was started in.
        directory: the directory that it changes to (``chdir``); both are absolute.
        is_root: whether the process may change its user.
    """

    def __init__(
        self, settings: Sequence[Setting], *, start: str, directory: str, is_root: bool
    ) -> None:
        self.settings = settings
        self.start = start
        self.directory = directory
        self.is_root = is_root
        self.plan = Plan()

    def last(self, *names: str) -> Setting | None:
        """Find the setting that counts where an option is given several times: the last one."""
        return next((it for it in reversed(self.settings) if it.name in names), None)

    def is_on(self, *names: str) -> bool:
        """Whether a flag is on."""
        setting = self.last(*names)
        return setting is not None and is_true(setting.value)

    def map(self, setting: Setting, group: str, /, **values: Any) -> None:
        """Set options, each in place of what was there; a list takes its items in addition."""
        shown = []
        for name, value in values.items():
            if OPTIONS[name].kind is Kind.TEXTS:
                self.plan.values[name] = (*self.plan.values.get(name, ()), *value)
                shown += [as_argument(name, one) for one in value]
            else:
                self.plan.values[name] = value
                shown.append(as_argument(name, value))
            self.plan.note_origin(name, setting, adds=OPTIONS[name].kind is Kind.TEXTS)
        self.find(Verdict.MAPPED, setting, " ".join(shown), group)

    def find(self, verdict: Verdict, setting: Setting, text: str, group: str) -> None:
        """Add a finding."""
        self.plan.findings.append(Finding(verdict, setting, text, group))

    def find_mapped(self, setting: Setting, group: str, text: str) -> None:
        """Add the finding that a line becomes what the text says."""
        self.find(Verdict.MAPPED, setting, text, group)

    def pass_over(self, setting: Setting, text: str, group: str) -> None:
        self.find(Verdict.PASSED_OVER, setting, text, group)

    def warn(self, setting: Setting, text: str, group: str) -> None:
        self.find(Verdict.WARNED, setting, text, group)

    def refuse(self, setting: Setting, text: str, group: str) -> None:
        self.find(Verdict.REFUSED, setting, text, group)

    def number_of(self, setting: Setting, group: str) -> int:
        """Read a number as uWSGI does, and warn where that is not what a reader takes it for."""
        found = number(setting.value)
        if not is_plain_number(setting.value):
            why = (
                "it has no comments behind values" if has_comment(setting.value) else "see atoi(3)"
            )
            self.warn(
                setting,
                f"uWSGI reads {setting.value!r} as {found}, and so it is read here: {why}.",
                group,
            )
        return found


Translate: TypeAlias = Callable[[Translation, "Row", Sequence[Setting]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One option of uWSGI, with its other names.

    Attributes:
        names: the first one is what ``--ignore`` takes.
        verdict: what usually becomes of it, for the documentation.
        text: what it becomes here, or why it is passed over, warned of or refused. For the last two, what to do
            instead.
        is_flag: whether it is a flag, which means nothing where it is off.
        translate: what happens with all of its settings, in their order.
    """

    names: tuple[str, ...]
    verdict: Verdict
    text: str
    is_flag: bool = False
    translate: Translate

    @property
    def group(self) -> str:
        return self.names[0]


def _names(names: str) -> tuple[str, ...]:
    return tuple(names.split())


# Functions that make a row of each kind. `names` has the names with spaces between them.


def passed_over(names: str, text: str) -> Row:
    """Make the row of what needs nothing here."""
    return _row_of_verdict(names, Verdict.PASSED_OVER, text, is_flag=False)


def warned(names: str, text: str, *, is_flag: bool = False) -> Row:
    """Make the row of what goes on without."""
    return _row_of_verdict(names, Verdict.WARNED, text, is_flag=is_flag)


def refused(names: str, text: str, *, is_flag: bool = False) -> Row:
    """Make the row of what can't go on without."""
    return _row_of_verdict(names, Verdict.REFUSED, text, is_flag=is_flag)


def tunes(feature: str, names: str) -> Row:
    """Make the row of what means something with another option alone, which is judged by its own row."""
    return warned(
        names,
        f"It is about {feature}, which there is nothing like here; without that it does nothing in uWSGI.",
    )


def _row_of_verdict(names: str, verdict: Verdict, text: str, *, is_flag: bool) -> Row:
    def translate(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
        for setting in settings:
            if row.is_flag and not is_true(setting.value):
                translation.pass_over(setting, "It is off.", row.group)
            else:
                translation.find(row.verdict, setting, row.text, row.group)

    return Row(
        names=_names(names), verdict=verdict, text=text, is_flag=is_flag, translate=translate
    )


def count(names: str, *fields: str, factor: int = 1) -> Row:
    """Make the row of a number; 0 leaves the default.

    Args:
        names: of the option.
        fields: the options here that get the number.
        factor: what the number is multiplied by, such as for a size in MiB.
    """

    def translate(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
        last = last_of(translation, row, settings)
        value = translation.number_of(last, row.group) * factor
        if value > 0:
            kinds = {field: OPTIONS[field].kind for field in fields}
            values = {
                it: float(value) if kind is Kind.SECONDS else value for it, kind in kinds.items()
            }
            translation.map(last, row.group, **values)
        else:
            translation.pass_over(last, "It sets no limit.", row.group)

    shown = " and ".join(f"`{option_name(field)}`" for field in fields)
    return mapped(names, shown + (" (uWSGI counts in MiB)" if factor == MIB else ""), translate)


def mapped(names: str, text: str, translate: Translate) -> Row:
    """Make the row of an option with a translation of its own."""
    return Row(names=_names(names), verdict=Verdict.MAPPED, text=text, translate=translate)


def text_of(setting: Setting) -> str:
    """Give a value that is a text; an option without one gets what uWSGI gives it, ``true``."""
    return "true" if setting.value is None else setting.value


def last_text(names: str, field: str, read: Callable[[Translation, str], str] | None = None) -> Row:
    """Make the row of a text, of which the last one counts.

    Args:
        names: of the option.
        field: the option here.
        read: makes our value of uWSGI's; by default it is the same.
    """

    def translate(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
        last = last_of(translation, row, settings)
        value = text_of(last)
        translation.map(last, row.group, **{field: read(translation, value) if read else value})

    return mapped(names, f"`{option_name(field)}`", translate)


def texts(names: str, field: str, read: Callable[[Translation, str], str] | None = None) -> Row:
    """Make the row of an option whose values add up."""

    def translate(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
        for setting in settings:
            value = text_of(setting)
            translation.map(
                setting, row.group, **{field: (read(translation, value) if read else value,)}
            )

    return mapped(names, f"`{option_name(field)}`", translate)


def last_of(translation: Translation, row: Row, settings: Sequence[Setting]) -> Setting:
    """Give the setting that counts, and say of the others that it does."""
    *earlier, last = settings
    for setting in earlier:
        if setting.place.line or not last.place.line:
            translation.pass_over(setting, "A later line sets it anew.", row.group)
        elif setting.value != last.value:
            # Who writes it there wants it to win, as it does with most programs.
            translation.warn(
                setting,
                f"uWSGI reads the file after it, so that {last.place} wins, and so it does here; behind --ini FILE on "
                "the command line, it would win.",
                row.group,
            )
        else:
            translation.pass_over(setting, f"{last.place} says the same.", row.group)
    return last
