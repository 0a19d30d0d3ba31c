"""What the commands share that run a configuration of another server."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from uwsgibridge.cli import serve
from uwsgibridge.cli.options import make_settings, origins_of_values
from uwsgibridge.cli.service import run_service
from uwsgibridge.config.options import option_name
from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import SettingsError
from uwsgibridge.migration import report
from uwsgibridge.migration.plan import Plan


def moving_options(server: str) -> Callable[[Any], Any]:
    """Decorate a command with ``--explain``, ``--ignore`` and the other server's arguments.

    Args:
        server: whose arguments they are.
    """

    def decorate(function: Any) -> Any:
        function = click.argument("arguments", nargs=-1, type=click.UNPROCESSED)(function)
        function = click.option(
            "--ignore",
            multiple=True,
            metavar="NAME",
            envvar="UWSGIBRIDGE_IGNORE",
            help=f"Go on without this option of {server}. Repeatable.",
        )(function)
        return click.option(
            "--explain",
            is_flag=True,
            help="Start nothing: print what each line becomes, the same as a command and as TOML, and what Nginx "
            "needs.",
        )(function)

    return decorate


def finish_plan(plan: Plan, *, explain: bool) -> int:
    """Explain a plan, refuse it, or run it.

    Args:
        plan: what the configuration becomes.
        explain: whether only to print it.

    Returns:
        The exit status.

    Raises:
        click.UsageError: something is refused, or a value is wrong; the message names the lines.
    """
    refusals = report.describe_refusals(plan)
    if explain:
        from uwsgibridge.migration.nginx_block import nginx_lines

        click.echo(report.explain(plan), nl=False)
        click.echo("\nIn Nginx:\n")
        click.echo("\n".join(f"  {line}" for line in nginx_lines(plan)))
        hindrances = [it for it in (refusals, wrong_value(plan)) if it]
        click.echo("".join(f"\n{it}\n" for it in hindrances), nl=False)
        return 2 if hindrances else 0
    if refusals:
        raise click.UsageError(refusals)
    for warning in report.describe_warnings(plan):
        click.echo(f"Warning: {warning}", err=True)
    for name, value in plan.environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    arguments = [one for group in report.command_arguments(plan)[1:] for one in group]
    if plan.app:
        arguments.append(plan.app)
    try:
        context = serve.command.make_context("serve", arguments)
        with context:
            values = dict(context.params)
            app = values.pop("app")
            settings = make_settings(values)
            # What the plan does not have stands in the environment, or in uwsgibridge.toml.
            origins = {**origins_of_values(), **dict.fromkeys(plan.values, "by default")}
    except click.UsageError as error:
        raise click.UsageError(_with_origin(plan, error.format_message())) from None
    # Without the line itself, which may have a secret.
    for name in plan.origins:
        places = dict.fromkeys(str(it.place) for it in plan.origins_of(name))
        origins[name] = ", ".join(places)
    return run_service(app, settings, origins)


def wrong_value(plan: Plan) -> str:
    """Say which value is none that its option takes; empty where all are.

    What depends on the place of the start, such as whether a directory exists, is not looked at: a plan may be made for another
    machine.
    """
    try:
        Settings(**plan.values)
    except SettingsError as error:
        return f"one value stands in the way, and nothing was started:\n  {_with_origin(plan, str(error))}"
    return ""


def _with_origin(plan: Plan, message: str) -> str:
    """Add the line that an option comes from to a message that names the option."""
    for name, setting in plan.origins.items():
        if option_name(name) in [it.strip(":'") for it in message.split(" ")[:4]]:
            return f"{setting.place}: {setting}: {message}"
    return message
