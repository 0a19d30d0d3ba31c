"""``uwsgibridge demo``: the bundled example applications behind a private Nginx."""

from __future__ import annotations

from typing import Final

import click

from uwsgibridge.cli.dev import nginx_option, port_option, require, run_behind_nginx

_MOUNTS: Final = (
    "/=uwsgibridge.demo.page:app",
    "/flask=uwsgibridge.demo.wsgi_flask:app",
    "/fastapi=uwsgibridge.demo.asgi_fastapi:app",
)


@click.command(short_help="The bundled example applications.")
@port_option
@nginx_option
@click.option(
    "--loop",
    type=click.Choice(["auto", "asyncio", "uvloop", "trio"]),
    default="auto",
    show_default=True,
    help="Event loop of the ASGI applications.",
)
def command(port: int, nginx: str | None, loop: str) -> None:
    """Serve the example applications behind a private Nginx: the thing to try first.

    A page that shows what arrives, an upload, streams, server-sent events and a chat by WebSockets;
    beside it a Flask (WSGI) and a FastAPI (ASGI) application on the same port. It needs no root,
    lives in a temporary directory, and goes with Ctrl-C.

    \b
    uwsgibridge demo               then open http://127.0.0.1:8080/
    uwsgibridge demo --port 0      on any free port
    """  # noqa: D301 - click marks paragraphs with this character
    for module in ("flask", "fastapi"):
        require(module, "the demo", "demo")
    mounts = [argument for mount in _MOUNTS for argument in ("--mount", mount)]
    run_behind_nginx(
        # One process, because each process has a chat of its own.
        [*mounts, "--loop", loop, "--workers", "0"],
        port=port,
        nginx=nginx,
        watch=None,
        banner=lambda url: [
            "",
            f"  {click.style('uwsgibridge demo', bold=True)}",
            "",
            f"  {url}/          what arrives, uploads, streams and a chat",
            f"  {url}/flask/    a Flask application, WSGI in threads",
            f"  {url}/fastapi/  a FastAPI application, ASGI",
            "",
            "  Ctrl-C stops the bridge and its Nginx.",
            "",
        ],
    )
