"""Click options from the table of settings, the environment and a configuration file."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import click
from click.core import ParameterSource

from uwsgibridge.cli.slips import (
    closest,
    explain,
    refuse_missing_directory,
    refuse_variables,
    without_unit,
)
from uwsgibridge.config.settings import CHOICES, Settings, option_name
from uwsgibridge.errors import SettingsError
from uwsgibridge.system.safe_path import UnsafePathError, exposure_of, hold_place

ENVIRONMENT_PREFIX = "UWSGIBRIDGE"

_MAX_CONFIG_BYTES: Final = 1_048_576


class SectionedCommand(click.Command):
    """A command whose help lists its options under the sections of the table.

    An option of another server is answered with what is in its place.
    """

    # Options of `serve` that the command settles itself, with what to say of each.
    settled: Mapping[str, str] = MappingProxyType({})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and explain options that are no option here."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise explain(error, self.settled) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one block of options for each section, the ones of the command itself last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        named = {one.name: one.metadata["section"] for one in dataclasses.fields(Settings)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                section = named.get(parameter.name or "", "Other options")
                sections.setdefault(section, []).append(record)
        sections["Other options"] = sections.pop("Other options", [])
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)


def settings_options(*, leave_out: frozenset[str] = frozenset()) -> Callable[[Any], Any]:
    """Decorate a command with an option for each row of the table, and ``--config``.

    Args:
        leave_out: rows that the command sets itself.
    """

    def decorate(function: Any) -> Any:
        for one in reversed(dataclasses.fields(Settings)):
            if one.name not in leave_out:
                function = _option(one)(function)
        return click.option(
            "--config",
            type=click.Path(dir_okay=False, path_type=Path),
            is_eager=True,
            expose_value=False,
            callback=_read_config,
            envvar=f"{ENVIRONMENT_PREFIX}_CONFIG",
            metavar="FILE",
            help="Read options from a TOML file: uwsgibridge.toml, or pyproject.toml's "
            "[tool.uwsgibridge]. Without it, uwsgibridge.toml in this directory is read.",
        )(function)

    return decorate


def make_settings(values: dict[str, Any]) -> Settings:
    """Check what the options gave.

    Raises:
        click.UsageError: exit status 2, with the option that is wrong.
    """
    refuse_missing_directory()
    refuse_variables(
        f"{ENVIRONMENT_PREFIX}_", (one.name for one in dataclasses.fields(Settings)), os.environ
    )
    try:
        return Settings(**values)
    except SettingsError as error:
        raise click.UsageError(f"{error}{_where_from(str(error))}") from None


def _where_from(message: str) -> str:
    """Tell the variable of the environment that a message about an option comes from."""
    ctx = click.get_current_context(silent=True)
    option = message.split(" ", 1)[0].rstrip(":")
    name = option.removeprefix("--").replace("-", "_")
    if ctx is None or ctx.get_parameter_source(name) != ParameterSource.ENVIRONMENT:
        return ""
    return f" (in the environment: {ENVIRONMENT_PREFIX}_{name.upper()})"


class _SourcedOption(click.Option):
    """An option whose value, where it is of the wrong kind, is blamed on what it comes from."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        try:
            return super().process_value(ctx, value)
        except click.BadParameter as error:
            reason = without_unit(self.name or "", value) or error.message
            if ctx.get_parameter_source(self.name or "") == ParameterSource.ENVIRONMENT:
                raise click.UsageError(f"{self.envvar} in the environment: {reason}") from None
            raise click.BadParameter(reason, ctx, self) from None


def settings_to_arguments(settings: Settings) -> list[str]:
    """Write settings as arguments again, for a process that is to run with them."""
    arguments: list[str] = []
    defaults = Settings()
    for one in dataclasses.fields(Settings):
        value = getattr(settings, one.name)
        name = option_name(one.name)
        if value == getattr(defaults, one.name):
            continue
        if isinstance(value, bool):
            arguments.append(name if value else f"--no-{one.name.replace('_', '-')}")
        else:
            for item in value if isinstance(value, tuple) else (value,):
                arguments += (name, str(item))
    return arguments


def _option(one: dataclasses.Field[Any]) -> Callable[[Any], Any]:
    default = getattr(Settings(), one.name)
    multiple = isinstance(default, tuple)
    kind: Any = {"int": int, "float": float, "str": str}.get(str(one.type))
    declaration = option_name(one.name)
    arguments: dict[str, Any] = {}
    if str(one.type) in CHOICES:
        kind = click.Choice(CHOICES[str(one.type)])
        arguments["show_choices"] = True
    elif str(one.type) == "bool":
        declaration += f"/--no-{declaration.removeprefix('--')}"
    names = [one.metadata["short"], declaration] if one.metadata["short"] else [declaration]
    return click.option(
        *names,
        one.name,
        cls=_SourcedOption,
        type=kind if not multiple else str,
        default=_default_of(one),
        multiple=multiple,
        envvar=f"{ENVIRONMENT_PREFIX}_{one.name.upper()}",
        show_default=one.metadata["shown_default"] or bool(default) or default == 0,
        metavar=one.metadata["metavar"],
        help=one.metadata["help"],
        **arguments,
    )


def _default_of(one: dataclasses.Field[Any]) -> Any:
    if one.default_factory is dataclasses.MISSING:
        return one.default
    default = one.default_factory
    return list(default()) if isinstance(default(), tuple) else default


def _read_config(ctx: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        path = Path("uwsgibridge.toml")
        if not path.exists():
            return
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_CONFIG_BYTES + 1)
        if len(content) > _MAX_CONFIG_BYTES:
            raise click.UsageError(
                f"--config {path}: it has over {_MAX_CONFIG_BYTES} bytes, and can't be a file of options"
            )
        _warn_if_exposed(path)
        document = tomllib.loads(content.decode())
    except OSError as error:
        raise click.UsageError(f"--config {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"--config {path}: it is not UTF-8 (from its byte {error.start} on)"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"--config {path}: {error}") from None
    if path.name == "pyproject.toml":
        document = document.get("tool", {}).get("uwsgibridge", {})
    fields = {one.name: one for one in dataclasses.fields(Settings)}
    values = {key.replace("-", "_"): value for key, value in document.items()}
    for key, value in values.items():
        if key == "app":
            kind = "str"
        elif key in fields:
            kind = str(fields[key].type)
        else:
            raise click.UsageError(f"--config {path}: {_no_such_option(key, value, path, fields)}")
        if not _fits(kind, value):
            unit = without_unit(key, value)
            wrong = f": {unit}" if unit else f" takes {_WANTED[kind]}, not {value!r}"
            raise click.UsageError(f"--config {path}: {option_name(key)}{wrong}")
    ctx.default_map = {**(ctx.default_map or {}), **values}


def _no_such_option(key: str, value: object, path: Path, options: Iterable[str]) -> str:
    if isinstance(value, dict):
        place = "under [tool.uwsgibridge]" if path.name == "pyproject.toml" else "at its top"
        return f"there is no section [{key}]: options stand {place}, one a line"
    meant = closest(key, options)
    return f"there is no option {key!r}" + (f": did you mean {meant!r}?" if meant else "")


def _warn_if_exposed(path: Path) -> None:
    """Say that root does what another user has written, who may take ``user`` out of the file."""
    if os.geteuid() != 0:
        return
    try:
        with hold_place(path) as place:
            found = os.stat(place.name, dir_fd=place.directory, follow_symlinks=place.is_kernels)
            who = place.exposed or exposure_of(found, str(path))
    except (OSError, UnsafePathError) as error:
        who = str(error)
    if who is not None:
        click.echo(
            f"Warning: --config {path}: {who}, and so what root does here; a file that only root can write is "
            "safe",
            err=True,
        )


def _fits(kind: str, value: object) -> bool:
    """Whether a value of a TOML file has the type of an option."""
    match kind:
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "tuple[str, ...]":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case _:
            return isinstance(value, str)


_WANTED: Final = defaultdict(
    lambda: "a text in quotes",
    {
        "bool": "true or false",
        "int": "a whole number",
        "float": "a number",
        "tuple[str, ...]": "a list of texts in quotes",
    },
)
