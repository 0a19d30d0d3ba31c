"""``uwsgibridge nginx``: print an Nginx configuration that fits, write it as a set of files, or check one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from uwsgibridge.cli.nginx_options import make_site, refuse_strays, site_options

if TYPE_CHECKING:
    from collections.abc import Mapping

_HELP = """Print a hardened Nginx configuration for a bridge, ready for /etc/nginx/conf.d/.

One file with everything in it: the vars that the application gets, limits and timeouts that
fit the bridge's own, security headers where the application sends none, gzip, and short
pages for 502, 503 and 504. With --output it becomes a set of files, in which rate limit and
TLS wait behind a commented-out line.

\b
Examples:
  uwsgibridge nginx > /etc/nginx/conf.d/app.conf
  uwsgibridge nginx --upstream unix:/run/app.sock --server-name example.org --tls
  uwsgibridge nginx --static /static/=/srv/www/static --rate-limit 20
  uwsgibridge nginx --upstream 127.0.0.1:3031 --upstream 127.0.0.1:3032
  uwsgibridge nginx --status unix:/run/status.sock --status-allow 10.0.0.0/8
  uwsgibridge nginx -u app1:3031 -u app2:3031 --resolver 10.0.0.2 --resolve --sticky
  uwsgibridge nginx --canary 127.0.0.1:3032 --canary-percent 5
  uwsgibridge nginx --cache /var/cache/nginx/app --nginx-version 1.26.3
  uwsgibridge nginx --output /etc/nginx && nginx -t
  uwsgibridge nginx --check /etc/nginx/nginx.conf
  nginx -T | uwsgibridge nginx --check - --config uwsgibridge.toml

With --check it judges configurations instead, each way that leads to a uwsgi_pass: exit
status 0, or 1 where there is an error (with --strict, or a warning). Nothing is changed, and
no Nginx is needed.

A location that you have already needs nothing of this: uwsgi_pass to the bridge's address
and include uwsgi_params are enough.
"""

_FOR_CHECK: Final = ("config", "control_socket", "prefix", "form", "strict", "probe")
_WITH_CHECK: Final = frozenset({*_FOR_CHECK, "check", "files", "nginx_version", "help"})


@click.command(help=_HELP, short_help="Print an Nginx configuration that fits.")
@site_options
@click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write a set of files below DIR, such as /etc/nginx, instead of printing one.",
)
@click.option("--force", is_flag=True, help="With --output, replace files that say something else.")
@click.option(
    "--compose",
    is_flag=True,
    help="The set of the Compose deployment, nginx.conf included; no other option but --output.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Judge FILE..., and print nothing else: nginx.conf, a file of sites-enabled, or - for what nginx -T prints.",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="TOML",
    help="With --check, the bridge's file of options, whose limits Nginx's have to fit; by default uwsgibridge.toml "
    "in this directory, if it is there, and serve's defaults.",
)
@click.option(
    "--control-socket",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="With --check, the control socket of a running supervisor, which is asked for its options instead.",
)
@click.option(
    "--prefix",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    metavar="DIR",
    help="With --check, where relative includes and those of /etc/nginx are; by default the nearest directory with an "
    "nginx.conf above the file.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif"]),
    default="text",
    show_default=True,
    help="With --check, for a person, a program, or a code host.",
)
@click.option("--strict", is_flag=True, help="With --check, exit status 1 for warnings as well.")
@click.option(
    "--probe",
    metavar="URL",
    default="",
    help="With --check, send requests to this URL through the running Nginx, and say what arrives at the workers and where "
    "that differs from FILE. They answer in the place of the applications. Needs a supervisor: --control-socket, else "
    "the one that ctl asks.",
)
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    output: Path | None,
    *,
    force: bool,
    compose: bool,
    check: bool,
    config: Path | None,
    control_socket: Path | None,
    prefix: Path | None,
    form: str,
    strict: bool,
    probe: str,
    files: tuple[str, ...],
    **chosen: Any,
) -> None:
    if check:
        _refuse_generators(ctx)
        if not files:
            raise click.UsageError(
                "--check takes files, such as /etc/nginx/nginx.conf, or - for what nginx -T prints"
            )
        if config is not None and control_socket is not None and not probe:
            raise click.UsageError(
                "give --config or --control-socket: each says the bridge's options"
            )
        from uwsgibridge.cli.nginx_check import check_files

        ctx.exit(
            check_files(
                files,
                config=config,
                control_socket=control_socket,
                version=chosen["nginx_version"],
                prefix=prefix,
                form=form,
                is_strict=strict,
                probe=probe,
            )
        )
    if files:
        raise click.UsageError(f"{files[0]}: a file goes with --check")
    for name in _FOR_CHECK:
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            option = "format" if name == "form" else name.replace("_", "-")
            raise click.UsageError(f"--{option} goes with --check")
    from uwsgibridge.frontend.config import render_compose_files, render_site, render_site_files
    from uwsgibridge.frontend.options import OptionError

    if force and output is None:
        raise click.UsageError("--force goes with --output")
    if compose:
        _refuse_others(ctx, chosen)
        if output is None:
            raise click.UsageError("--compose is a set of files: say where with --output")
        _write(render_compose_files(), output, force=force)
        return
    refuse_strays(ctx)
    try:
        site = make_site(chosen)
    except OptionError as error:
        raise click.UsageError(str(error)) from error
    if output is None:
        click.echo(render_site(site), nl=False)
    else:
        _write(render_site_files(site), output, force=force)


def _refuse_generators(ctx: click.Context) -> None:
    """Refuse the options that say what to print, where nothing is printed."""
    default = click.core.ParameterSource.DEFAULT
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name not in _WITH_CHECK and ctx.get_parameter_source(name) is not default:
            raise click.UsageError(
                f"--check writes no configuration: leave {parameter.opts[0]} out"
            )


def _refuse_others(ctx: click.Context, chosen: Mapping[str, object]) -> None:
    default = click.core.ParameterSource.DEFAULT
    for parameter in ctx.command.params:
        name = parameter.name
        if name in chosen and ctx.get_parameter_source(name) is not default:
            raise click.UsageError(f"--compose has its own value for {parameter.opts[0]}")


def _write(files: Mapping[str, str], directory: Path, *, force: bool) -> None:
    # All files are looked at before the first is written, so that a refusal changes nothing.
    try:
        if not force:
            for path, text in files.items():
                target = directory / path
                if target.exists() and target.read_text(encoding="utf-8", errors="replace") != text:
                    raise click.ClickException(
                        f"{target} says something else; replace it with --force"
                    )
        for path, text in files.items():
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            click.echo(target)
    except OSError as error:
        raise click.ClickException(f"{error.filename or directory}: {error.strerror}") from error
