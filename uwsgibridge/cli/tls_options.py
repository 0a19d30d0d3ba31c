"""The options of ``ping`` and ``request`` that are about TLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from uwsgibridge.client import Tls

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option(
        "--tls",
        "is_tls",
        is_flag=True,
        help="Speak TLS, as Nginx does for suwsgi://. Without --tls-ca, the server's certificate is not verified.",
    ),
    click.option(
        "--tls-ca",
        type=click.Path(),
        metavar="FILE",
        help="Speak TLS, and verify that one of these certificates, in PEM, has signed the server's.",
    ),
    click.option(
        "--tls-name",
        metavar="NAME",
        help="Speak TLS, with this name to verify and to send (SNI). Default: the host of ADDRESS.",
    ),
    click.option(
        "--tls-certificate",
        type=click.Path(),
        metavar="FILE",
        help="Speak TLS, with this certificate of the client and the chain behind it, in PEM.",
    ),
    click.option(
        "--tls-key",
        type=click.Path(),
        metavar="FILE",
        help="The key of --tls-certificate, in PEM. Default: in the certificate's file.",
    ),
)


def tls_options(command: _Command) -> _Command:
    """Add the options to a command, which gets them as they are; `make_tls` reads them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make_tls(
    *,
    is_tls: bool,
    tls_ca: str | None,
    tls_name: str | None,
    tls_certificate: str | None,
    tls_key: str | None,
) -> Tls | bool:
    """Give what the client takes; False where no option is given.

    Raises:
        ValueError: the options do not belong together.
    """
    if not is_tls and (tls_ca, tls_name, tls_certificate, tls_key) == (None,) * 4:
        return False
    return Tls(ca=tls_ca, name=tls_name, certificate=tls_certificate, key=tls_key)
