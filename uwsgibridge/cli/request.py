"""``uwsgibridge request``: send one request to a uwsgi port and print the answer; curl for uwsgi."""

from __future__ import annotations

import errno
import io
import os
from contextlib import ExitStack, suppress
from itertools import chain
from typing import IO, Any

import click

from uwsgibridge.cli.tls_options import make_tls, tls_options
from uwsgibridge.cli.units import SECONDS
from uwsgibridge.client import DEFAULT_REQUEST_TIMEOUT_SECONDS, RequestError, stream

_HELP = """Send one request to the uwsgi port at ADDRESS and print the answer: curl for uwsgi.

The application sees what Nginx's own uwsgi_params would send for a request to http://localhost
from 127.0.0.1. PATH is percent-encoded and may have a query string.

\b
Examples:
  uwsgibridge request 127.0.0.1:3031
  uwsgibridge request unix:/run/app.sock '/search?q=trio' -i
  uwsgibridge request 127.0.0.1:3031 /login -d name=ada -d role=admin
  uwsgibridge request 127.0.0.1:3031 /items -H 'Content-Type: application/json' -d @item.json
  uwsgibridge request 127.0.0.1:3031 /upload -X PUT -d @- < large.bin
  uwsgibridge request 127.0.0.1:3031 /whoami --var REMOTE_ADDR=192.0.2.7 --var HTTPS=on
  uwsgibridge request backend.example:3031 --tls-ca ca.pem

DATA goes out as it is, a file's line ends included, as a form unless there is a Content-Type
header. Exit status: 0 for an answer of any status (see --fail), 1 for none or a truncated one,
2 for an argument or option that is not valid.
"""

_FORM_TYPE = "application/x-www-form-urlencoded"


@click.command(help=_HELP, short_help="Send one request without an Nginx: curl for uwsgi.")
@click.argument("address")
@click.argument("path", default="/")
@click.option("--method", "-X", metavar="METHOD", help="Default: GET, or POST with --data.")
@click.option(
    "--header", "-H", "headers", metavar="'NAME: VALUE'", multiple=True, help="Add a header."
)
@click.option(
    "--data",
    "-d",
    "data",
    metavar="DATA",
    multiple=True,
    help="Send DATA as the body, or the bytes of a file (@FILE) or of standard input (@-). "
    "More than one DATA is joined with &.",
)
@click.option(
    "--var",
    "overrides",
    metavar="NAME=VALUE",
    multiple=True,
    help="Set a var beside or in place of those that Nginx would send.",
)
@click.option("--include", "-i", is_flag=True, help="Print the head of the answer as well.")
@click.option(
    "--output",
    "-o",
    type=click.File("wb", lazy=True),
    default="-",
    metavar="FILE",
    help="Write the answer to FILE, not to standard output.",
)
@click.option("--fail", "-f", is_flag=True, help="Exit with 1, and no body, on a status of 400 up.")
@click.option(
    "--timeout-seconds",
    type=SECONDS,
    default=DEFAULT_REQUEST_TIMEOUT_SECONDS,
    show_default=True,
    help="How many seconds connecting and the whole answer, up to its last byte, may take.",
)
@tls_options
def command(
    address: str,
    path: str,
    method: str | None,
    headers: tuple[str, ...],
    data: tuple[str, ...],
    overrides: tuple[str, ...],
    output: IO[bytes],
    timeout_seconds: float,
    *,
    include: bool,
    fail: bool,
    **tls: Any,
) -> None:
    if not path.startswith("/") and path != "*":
        raise click.UsageError(
            f"PATH begins with a slash, not as {path!r}; a host is named by -H 'Host: NAME'."
        )
    parsed_headers = [_parse_header(header) for header in headers]
    if data and not any(name.lower() == "content-type" for name, _value in parsed_headers):
        parsed_headers.append(("Content-Type", _FORM_TYPE))
    with ExitStack() as stack:
        try:
            answer = stack.enter_context(
                stream(
                    address,
                    path,
                    method=method or ("POST" if data else "GET"),
                    headers=parsed_headers,
                    body=_open_body(data, stack) if data else b"",
                    vars=dict(map(_parse_var, overrides)),
                    tls=make_tls(**tls),
                    timeout_seconds=timeout_seconds,
                )
            )
            if fail and answer.status >= 400:
                raise click.ClickException(
                    f"{address} answered {answer.status} {answer.reason}".rstrip()
                )
            for piece in chain([answer.head] if include else [], answer.chunks):
                output.write(piece)
                # Server-sent events and progress have to be seen as they come.
                output.flush()
            output.flush()  # so that an answer without a body creates the file, too
        except RequestError as error:
            raise click.ClickException(str(error)) from error
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # click handles this: `request ... | head` is no error
                raise
            with suppress(OSError):
                output.close()  # else Python's end would try to write once more, and fail
            place = "standard output" if output.name == "-" else output.name
            raise click.ClickException(
                f"The answer can't be written to {place}: {error.strerror}"
            ) from error


def _parse_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (colon and name.strip() and name.isascii()):
        raise click.UsageError(f"-H takes 'NAME: VALUE', not {text!r}.")
    return name.strip(), _as_wire_text(value.strip())


def _parse_var(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name):
        raise click.UsageError(f"--var takes NAME=VALUE, not {text!r}.")
    return _as_wire_text(name), _as_wire_text(value)


def _as_wire_text(argument: str) -> str:
    """Give the bytes that the shell passed, one latin-1 character for each."""
    return os.fsencode(argument).decode("latin-1")


def _open_body(data: tuple[str, ...], stack: ExitStack) -> IO[bytes]:
    if len(data) == 1 and data[0].startswith("@"):
        name = data[0].removeprefix("@")
        try:
            return stack.enter_context(click.open_file(name, "rb"))
        except OSError as error:
            raise click.UsageError(f"-d @{name}: {error.strerror}.") from error
    if any(item.startswith("@") for item in data):
        raise click.UsageError("-d @FILE stands alone: a file is not joined with other data.")
    return io.BytesIO(b"&".join(map(os.fsencode, data)))
