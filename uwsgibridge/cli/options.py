"""Click options from the table of settings, the environment and a configuration file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import click
from click.core import ParameterSource

from uwsgibridge.cli.environment import check_environment, enter_directory
from uwsgibridge.cli.slips import (
    closest,
    explain,
    key_instead,
    refuse_missing_directory,
    refuse_variables,
)
from uwsgibridge.cli.units import BYTES, SECONDS
from uwsgibridge.config.options import Kind, Option, option_name
from uwsgibridge.config.reading import read_start
from uwsgibridge.config.settings import OPTIONS, Settings
from uwsgibridge.config.units import parse_bytes, parse_seconds
from uwsgibridge.errors import SettingsError
from uwsgibridge.system.safe_path import UnsafePathError, exposure_of, open_place

ENVIRONMENT_PREFIX = "UWSGIBRIDGE"

_MAX_CONFIG_BYTES: Final = 1_048_576

# Where the context of a command keeps the path of its file of options.
_FILE_KEY: Final = "uwsgibridge.config_file"


class SectionedCommand(click.Command):
    """A command whose help lists its options under the sections of the table.

    For an option of another server, the error names the option to use here.
    """

    # Options of `serve` that the command sets itself, each with the sentence for who gives it.
    settled: Mapping[str, str] = MappingProxyType({})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, and explain options that do not exist here."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise explain(error, self.settled) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a block of options for each section, and the options of the command itself last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                option = OPTIONS.get(parameter.name or "")
                section: str = "Other options" if option is None else option.section
                sections.setdefault(section, []).append(record)
        sections["Other options"] = sections.pop("Other options", [])
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)


def settings_options(*, leave_out: frozenset[str] = frozenset()) -> Callable[[Any], Any]:
    """Decorate a command with an option for each row of the table, and ``--config``.

    Args:
        leave_out: rows of the table that the command sets itself.
    """

    def decorate(function: Any) -> Any:
        for name, option in reversed(list(OPTIONS.items())):
            if name not in leave_out:
                function = _option(name, option)(function)
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
    """Change to the directory that the options name, and make settings of the options' values.

    Raises:
        click.UsageError: a value is wrong; the message names the option, and the exit status is 2.
    """
    refuse_missing_directory()
    refuse_variables(f"{ENVIRONMENT_PREFIX}_", OPTIONS, os.environ)
    directory = enter_directory(values.get("chdir", ""))
    try:
        settings = Settings(**{**values, "chdir": directory})
        check_environment(settings)
        if settings.virtualenv:
            from uwsgibridge.system.virtualenv import find_virtualenv

            find_virtualenv(settings.virtualenv)
    except SettingsError as error:
        raise click.UsageError(f"{error}{_where_from(str(error))}") from None
    for path in settings.env_file:
        _warn_if_exposed("--env-file", Path(path))
    return settings


def origins_of_values() -> dict[str, str]:
    """Tell where the value of each option of the running command came from; those with their default are left out."""
    ctx = click.get_current_context()
    file = ctx.meta.get(_FILE_KEY, "a file")
    origins = {}
    for name, option in OPTIONS.items():
        match ctx.get_parameter_source(name):
            case ParameterSource.COMMANDLINE:
                origins[name] = "command line"
            case ParameterSource.ENVIRONMENT:
                origins[name] = f"environment ({ENVIRONMENT_PREFIX}_{name.upper()})"
            case ParameterSource.DEFAULT_MAP:
                origins[name] = f"file ({file})"
            case _ if option.default_variable and os.environ.get(option.default_variable):
                origins[name] = f"environment ({option.default_variable})"
    return origins


def _where_from(message: str) -> str:
    """Tell from which variable of the environment the option of a message has its value."""
    ctx = click.get_current_context(silent=True)
    option = message.split(" ", 1)[0].rstrip(":")
    name = option.removeprefix("--").replace("-", "_")
    if ctx is None or ctx.get_parameter_source(name) != ParameterSource.ENVIRONMENT:
        return ""
    return f" (in the environment: {ENVIRONMENT_PREFIX}_{name.upper()})"


class _SourcedOption(click.Option):
    """An option whose error messages say where the wrong value comes from."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        try:
            return super().process_value(ctx, value)
        except click.BadParameter as error:
            reason = error.message
            if ctx.get_parameter_source(self.name or "") == ParameterSource.ENVIRONMENT:
                raise click.UsageError(f"{self.envvar} in the environment: {reason}") from None
            raise click.BadParameter(reason, ctx, self) from None


def settings_to_arguments(settings: Settings) -> list[str]:
    """Write settings as arguments of the command line, for another process."""
    arguments: list[str] = []
    defaults = Settings()
    for field_name, option in OPTIONS.items():
        value = getattr(settings, field_name)
        name = option_name(field_name)
        if value == getattr(defaults, field_name):
            continue
        if option.kind is Kind.FLAG:
            arguments.append(name if value else f"--no-{name.removeprefix('--')}")
        else:
            for item in value if option.kind is Kind.TEXTS else (value,):
                arguments += (name, str(item))
    return arguments


def _option(name: str, option: Option) -> Callable[[Any], Any]:
    default = option.default_value()
    declaration = option_name(name)
    if option.kind is Kind.FLAG:
        declaration += f"/--no-{declaration.removeprefix('--')}"
    names = [option.short, declaration] if option.short else [declaration]
    kind = _LINES if option.one_a_line else _TYPES.get(option.kind)
    return click.option(
        *names,
        name,
        cls=_SourcedOption,
        type=click.Choice(option.choices) if option.kind is Kind.CHOICE else kind,
        default=list(default) if option.kind is Kind.TEXTS else _default(name, option),
        multiple=option.kind is Kind.TEXTS,
        envvar=f"{ENVIRONMENT_PREFIX}_{name.upper()}",
        show_default=option.shown_default or bool(default) or default == 0,
        metavar=option.metavar,
        help=option.description,
    )


def _default(name: str, option: Option) -> Any:
    """Give the default of an option, or the function that finds it when the command runs."""
    variable = option.default_variable
    if variable is None:
        return option.default

    def default() -> Any:
        text = os.environ.get(variable, "")
        if not text:
            return option.default_value()
        where = f"{variable} in the environment, the default of {option_name(name)},"
        try:
            number = int(text)
        except ValueError:
            raise click.UsageError(f"{where} is no whole number: {text!r}") from None
        # 0 has a meaning of its own here, which other servers do not know.
        if not 1 <= number <= option.most:
            raise click.UsageError(
                f"{where} must be at least 1 and at most {option.most}: {text!r}"
            )
        return number

    return default


class _Lines(click.types.StringParamType):
    """A text that may have spaces: in the environment, each stands in a line of its own."""

    def split_envvar_value(self, rv: str) -> list[str]:
        return [it for it in rv.splitlines() if it.strip()]


_LINES: Final = _Lines()

_TYPES: Final = {
    Kind.WHOLE: int,
    Kind.BYTES: BYTES,
    Kind.SECONDS: SECONDS,
    Kind.TEXT: str,
    Kind.TEXTS: str,
}


def _read_config(ctx: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        path = Path("uwsgibridge.toml")
        if not path.exists():
            return
    if path.suffix == ".py":
        raise click.UsageError(
            f"--config {path}: options stand in a TOML file; run-gunicorn -c {path} runs a configuration of gunicorn"
        )
    import tomllib  # imported here: few services have a file of options

    try:
        content = read_start(str(path), _MAX_CONFIG_BYTES + 1)
        if len(content) > _MAX_CONFIG_BYTES:
            raise click.UsageError(
                f"--config {path}: it has over {_MAX_CONFIG_BYTES} bytes, and can't be a file of options"
            )
        _warn_if_exposed("--config", path)
        document = tomllib.loads(content.decode().removeprefix("\ufeff"))
    except OSError as error:
        raise click.UsageError(f"--config {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"--config {path}: it is not UTF-8 (from its byte {error.start} on)"
        ) from None
    except tomllib.TOMLDecodeError as error:
        hint = "; all but plain numbers, true and false stands in quotes"
        is_bare = str(error).startswith(("Invalid value", "Expected newline"))
        raise click.UsageError(f"--config {path}: {error}{hint if is_bare else ''}") from None
    if path.name == "pyproject.toml":
        document = document.get("tool", {}).get("uwsgibridge", {})
    values = {key.replace("-", "_"): value for key, value in document.items()}
    for key, value in values.items():
        if key == "app":
            kind = Kind.TEXT
        elif key in OPTIONS:
            kind = OPTIONS[key].kind
        else:
            raise click.UsageError(f"--config {path}: {_no_such_option(key, value, path, OPTIONS)}")
        if kind in _PARSERS and isinstance(value, str):
            try:
                values[key] = _PARSERS[kind](value)
            except ValueError as error:
                raise click.UsageError(f"--config {path}: {option_name(key)}: {error}") from None
        elif not _fits(kind, value):
            is_shown = key == "app" or not OPTIONS[key].is_secret
            wrong = f", not {value!r}" if is_shown else ""
            raise click.UsageError(
                f"--config {path}: {option_name(key)} takes {_WANTED[kind]}{wrong}"
            )
    ctx.meta[_FILE_KEY] = str(path.absolute())
    ctx.default_map = {**(ctx.default_map or {}), **values}


def _no_such_option(key: str, value: object, path: Path, options: Iterable[str]) -> str:
    if isinstance(value, dict):
        place = "under [tool.uwsgibridge]" if path.name == "pyproject.toml" else "at its top"
        return f"there is no section [{key}]: options stand {place}, one a line"
    if instead := key_instead(key):
        return f"there is no option {key!r}: {instead}"
    meant = closest(key, options)
    return f"there is no option {key!r}" + (f": did you mean {meant!r}?" if meant else "")


def _warn_if_exposed(option: str, path: Path) -> None:
    """Warn root of a file that another user can write, and so change what root does."""
    if os.geteuid() != 0:
        return
    try:
        with open_place(path) as place:
            found = os.stat(place.name, dir_fd=place.directory, follow_symlinks=place.is_kernels)
            who = place.exposed or exposure_of(found, str(path))
    except (OSError, UnsafePathError) as error:
        who = str(error)
    if who is not None:
        click.echo(
            f"Warning: {option} {path}: {who}, and so what root does here; a file that only root can write is "
            "safe",
            err=True,
        )


def _fits(kind: Kind, value: object) -> bool:
    """Whether a value of a TOML file has the type of an option."""
    match kind:
        case Kind.FLAG:
            return isinstance(value, bool)
        case Kind.WHOLE | Kind.BYTES:
            return isinstance(value, int) and not isinstance(value, bool)
        case Kind.SECONDS:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case Kind.TEXTS:
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case Kind.TEXT | Kind.CHOICE:
            return isinstance(value, str)


_PARSERS: Final[Mapping[Kind, Callable[[str], float]]] = {
    Kind.BYTES: parse_bytes,
    Kind.SECONDS: parse_seconds,
}

_WANTED: Final = {
    Kind.FLAG: "true or false",
    Kind.WHOLE: "a whole number",
    Kind.BYTES: 'a whole number, or a text such as "256M"',
    Kind.SECONDS: 'a number, or a text such as "30s"',
    Kind.TEXT: "a text in quotes",
    Kind.TEXTS: "a list of texts in quotes",
    Kind.CHOICE: "a text in quotes",
}
