"""``uwsgibridge nginx --check``: judge configurations of Nginx, and say it to a person or to a program."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from uwsgibridge.frontend.check.checking import Result
    from uwsgibridge.frontend.check.finding import Bridge
    from uwsgibridge.frontend.check.probe import Observed

FORMATS: Final = ("text", "json", "sarif")
STANDARD_INPUT: Final = "-"

# Found something, as linters say it; wrong usage is 2, as everywhere.
_FOUND: Final = 1


def check_files(
    files: Sequence[str],
    *,
    config: Path | None,
    control_socket: Path | None,
    version: str,
    prefix: Path | None,
    form: str,
    is_strict: bool,
    probe: str = "",
) -> int:
    """Check files, and print what was found.

    Args:
        files: paths; ``-`` is the standard input.
        config: the bridge's file of options, whose limits the configuration has to fit.
        control_socket: of a running supervisor, which is asked for them instead.
        version: Nginx's, or nothing.
        prefix: the directory that relative includes are below; found by each file where it is None.
        form: one of `FORMATS`.
        is_strict: whether a warning is a failure as well.
        probe: a URL to send requests to; empty for none.

    Returns:
        The exit status: 0, or 1 where something was found that matters.

    Raises:
        click.UsageError: a file can't be read, or an option is wrong.
    """
    from uwsgibridge._version import __version__
    from uwsgibridge.frontend.check.checking import check
    from uwsgibridge.frontend.check.finding import Severity
    from uwsgibridge.frontend.check.report import as_json, as_sarif, as_text
    from uwsgibridge.frontend.options import OptionError, parse_version

    if probe and control_socket is None:
        # Imported here: few checks send requests.
        from uwsgibridge.cli.control_choice import CONTROL_VARIABLE, choose_socket

        control_socket = choose_socket(os.environ.get(CONTROL_VARIABLE))
    asked = control_socket if config is None else None
    bridge = read_bridge(config) if asked is None else ask_bridge(asked)
    try:
        nginx = parse_version(version) if version else None
    except OptionError as error:
        raise click.UsageError(str(error)) from None
    results = []
    for file in files:
        is_piped = file == STANDARD_INPUT
        text = sys.stdin.buffer.read().decode("utf-8", "replace") if is_piped else None
        try:
            result = check(
                "(standard input)" if is_piped else file,
                text,
                bridge=bridge,
                version=nginx,
                prefix=None if prefix is None else str(prefix.absolute()),
            )
        except OSError as error:
            reason = error.strerror or error
            raise click.UsageError(f"--check {file}: {reason}") from None
        results.append(result)
    observed = None
    if probe:
        assert control_socket is not None
        observed, results = send_probe(probe, control_socket, bridge, results)
    match form:
        case "json":
            text = as_json(results, observed)
        case "sarif":
            text = as_sarif(results, __version__)
        case _:
            text = as_text(results, observed)
    click.echo(text, nl=False)
    matters = {Severity.ERROR, Severity.WARNING} if is_strict else {Severity.ERROR}
    return _FOUND if any(it.severity in matters for one in results for it in one.findings) else 0


def send_probe(
    url: str, control_socket: Path, bridge: Bridge, results: Sequence[Result]
) -> tuple[Observed, list[Result]]:
    """Send requests to a URL, and add to the results where what was seen differs from them.

    Raises:
        click.UsageError: none arrived, or no file leads the URL to an application.
    """
    from uwsgibridge.control.client import ControlError
    from uwsgibridge.frontend.check.probe import ProbeError, observe
    from uwsgibridge.frontend.check.probed import differences, find_way

    ways = [(it, find_way(it.tree, url)) for it in results if it.tree is not None]
    here, way = next(((it, way) for it, way in ways if way is not None), (None, None))
    if here is None or way is None:
        files = ", ".join(it.file for it in results)
        raise click.UsageError(
            f"--probe {url}: nothing in {files} leads it to an application: name the file that does"
        )
    try:
        observed = observe(
            url,
            partial(_ask_probe, control_socket),
            head_bytes=bridge.settings.frontend_buffer_bytes,
            body_bytes=bridge.settings.max_body_bytes,
        )
    except ProbeError as error:
        raise click.UsageError(str(error)) from None
    except ControlError as error:
        raise click.UsageError(f"--control-socket {control_socket}: {error}") from None
    found = differences(observed, way, bridge)
    judged = replace(here, findings=(*here.findings, *found))
    return observed, [judged if it is here else it for it in results]


def _ask_probe(control_socket: Path, token: str, *, ends: bool = False) -> dict[str, Any]:
    from uwsgibridge.control.client import ask

    return ask(control_socket, "probe", token=token, ends=ends)


def read_bridge(config: Path | None) -> Bridge:
    """Give the options in force as ``serve`` would have them.

    Args:
        config: a file of options. Where it is None, ``uwsgibridge.toml`` in this directory is read if it is
            there. The environment counts as well.

    Raises:
        click.UsageError: a value is wrong.
    """
    from uwsgibridge.cli.options import settings_options
    from uwsgibridge.errors import SettingsError
    from uwsgibridge.frontend.check.finding import Bridge

    @click.command()
    @settings_options()
    @click.pass_context
    def options(ctx: click.Context, /, **values: Any) -> Bridge:
        default = click.core.ParameterSource.DEFAULT
        given = frozenset(name for name in values if ctx.get_parameter_source(name) is not default)
        try:
            return Bridge.of(values, given)
        except SettingsError as error:
            raise click.UsageError(str(error)) from None

    arguments = [] if config is None else ["--config", str(config)]
    bridge: Bridge = options.main(
        arguments, prog_name="uwsgibridge nginx --check", standalone_mode=False
    )
    return bridge


def ask_bridge(control_socket: Path) -> Bridge:
    """Ask a running supervisor for the options that are in force.

    Raises:
        click.ClickException: it gives no answer, or one of a version that has other options.
    """
    from uwsgibridge.control.client import ControlError, ask
    from uwsgibridge.errors import SettingsError
    from uwsgibridge.frontend.check.finding import Bridge

    try:
        options = ask(control_socket, "config")["options"]
    except ControlError as error:
        raise click.UsageError(f"--control-socket {control_socket}: {error}") from None
    names = {it["option"]: it["option"].removeprefix("--").replace("-", "_") for it in options}
    values = {names[it["option"]]: it["value"] for it in options}
    given = frozenset(names[it["option"]] for it in options if it["origin"] != "default")
    try:
        return Bridge.of(values, given)
    except SettingsError as error:
        raise click.UsageError(f"--control-socket {control_socket}: {error}") from None
