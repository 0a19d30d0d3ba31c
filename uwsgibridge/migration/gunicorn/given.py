"""What configures gunicorn, as it was read: settings with their values and places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from uwsgibridge.migration.gunicorn.known_settings import SETTINGS
from uwsgibridge.migration.gunicorn.paths import absolute
from uwsgibridge.migration.gunicorn.portable import portable
from uwsgibridge.migration.gunicorn.values import Kind
from uwsgibridge.migration.plan import Place, Setting

_DEFAULT: Final = "gunicorn's default"


@dataclass(frozen=True, slots=True)
class Given:
    """A setting that somebody has given, or its default.

    Attributes:
        name: as in a configuration file.
        value: what gunicorn makes of it.
        place: where it stands.
        is_default: whether nobody has given it.
        variables: the variables of the environment that its value is made of.
    """

    name: str
    value: Any
    place: Place
    is_default: bool = False
    variables: tuple[str, ...] = ()

    @property
    def setting(self) -> Setting:
        """The setting as people read it."""
        shown = _shown(self.name, self.value)
        return Setting(self.name, shown, self.place, variables=self.variables)


@dataclass(frozen=True, slots=True)
class Reading:
    """All that configures gunicorn.

    Attributes:
        app: the application's name, as the command line has it; None where it has none.
        given: all settings, in gunicorn's order: of several with one name, the last counts.
        unknown: names of the file that gunicorn passes over, and that nothing in the file reads.
        environment: variables that the file has changed; None for one that it has removed.
        python_path: directories that the file has put on ``sys.path``.
        patched_by: the library by which the file has patched the standard library; None for none.
        script_name: the variable SCRIPT_NAME of the environment, which gunicorn takes off the path; empty for none.
        start: the directory that the process was started in.
        multiproc_dir: the variable PROMETHEUS_MULTIPROC_DIR of the environment, which prometheus_client reads; empty for none.
    """

    app: Given | None
    given: tuple[Given, ...]
    unknown: tuple[Given, ...] = ()
    environment: Mapping[str, str | None] = field(default_factory=dict)
    python_path: tuple[str, ...] = ()
    patched_by: str | None = None
    script_name: str = ""
    start: str = "."
    multiproc_dir: str = ""

    def find(self, name: str) -> Given | None:
        """Find what counts for a setting; None where nobody has given it."""
        return next((one for one in reversed(self.given) if one.name == name), None)

    def value(self, name: str) -> Any:
        """Give the value that counts for a setting: what is given, else the default."""
        found = self.find(name)
        return SETTINGS[name].default if found is None else found.value

    @property
    def directory(self) -> str:
        """The directory that gunicorn changes to; absolute."""
        return absolute(self.value("chdir") or ".", self.start)

    def portable(self) -> Reading:
        """Give the same, without functions, classes and other objects that another process can't get."""
        return replace(
            self,
            given=tuple(replace(one, value=portable(one.value)) for one in self.given),
            unknown=tuple(replace(one, value=portable(one.value)) for one in self.unknown),
        )


def default_of(name: str) -> Given:
    """Give the default of a setting."""
    return Given(name, SETTINGS[name].default, Place(_DEFAULT), is_default=True)


def _shown(name: str, value: Any) -> str | None:
    """Write a value for people; None for a function, whose name says enough."""
    known = SETTINGS.get(name)
    if callable(value) or (known is not None and known.kind is Kind.HOOK):
        return None
    if known is not None and known.kind is Kind.OCTAL:
        return f"0o{value:03o}"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value) if value else "[]"
    if isinstance(value, dict):
        return "{...}" if value else "{}"
    return str(value)
