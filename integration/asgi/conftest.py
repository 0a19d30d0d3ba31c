"""Stacks for the applications of this directory: on each event loop, over TCP and over a unix socket.

They run as processes of this machine, and where a kind says so in the project's containers.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pytest

from uwsgibridge.frontend.binary import choose_nginx

if TYPE_CHECKING:
    from uwsgibridge.testing import ComposeStack, LocalStack

    Stack: TypeAlias = LocalStack | ComposeStack

REPOSITORY = Path(__file__).parents[2]
APPS = "integration.asgi.apps"

LOOPS: tuple[Literal["asyncio", "uvloop", "trio"], ...] = ("asyncio", "uvloop", "trio")

# Two more ways to the bridge: SCRIPT_NAME is cut off, as uWSGI's users have it; and what Nginx says of
# TLS, without a name of its own and without the client's address.
DIRECTIVES = """
location /cut/ {
    uwsgi_pass $uwsgibridge_upstream;
    uwsgi_modifier1 30;
    uwsgi_param SCRIPT_NAME /cut;
    uwsgi_param REQUEST_URI $request_uri;
    uwsgi_param REQUEST_METHOD $request_method;
    uwsgi_param PATH_INFO $document_uri;
    uwsgi_param SERVER_PROTOCOL $server_protocol;
}
location /secure/ {
    uwsgi_pass $uwsgibridge_upstream;
    uwsgi_modifier1 30;
    uwsgi_param SCRIPT_NAME /secure;
    uwsgi_param REQUEST_METHOD $request_method;
    uwsgi_param PATH_INFO $document_uri;
    uwsgi_param SERVER_PROTOCOL $server_protocol;
    uwsgi_param REQUEST_SCHEME https;
    uwsgi_param HTTPS on;
    uwsgi_param SERVER_NAME "";
    uwsgi_param SERVER_PORT 8443;
}
"""


COMPLAINTS = (
    "never retrieved",
    "never awaited",
    "Exception ignored",
    "was destroyed but it is pending",
    "ResourceWarning",
    "broken off",
)


@dataclass(frozen=True)
class Kind:
    """One combination that tests run on."""

    loop: Literal["asyncio", "uvloop", "trio"]
    socket: Literal["tcp", "unix"]
    place: Literal["local", "compose"] = "local"

    def __str__(self) -> str:
        return f"{self.place}-{self.loop}-{self.socket}"


KINDS = [Kind(loop, socket) for loop in LOOPS for socket in ("tcp", "unix")]

# For what does not depend on the loop, or costs too much on all of them.
on_asyncio_alone = pytest.mark.parametrize(
    "kind", [Kind("asyncio", "tcp")], ids=str, indirect=True, scope="session"
)
on_each_loop = pytest.mark.parametrize(
    "kind",
    [Kind("asyncio", "tcp"), Kind("uvloop", "unix"), Kind("trio", "tcp")],
    ids=str,
    indirect=True,
    scope="session",
)


@pytest.fixture(scope="session", params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    """The loop, and how Nginx reaches the bridge."""
    found: Kind = request.param
    return found


@pytest.fixture(scope="session")
def serve(
    request: pytest.FixtureRequest, local_stack: Callable[..., LocalStack]
) -> Callable[..., Stack]:
    """Start a stack of a kind with an application of this directory."""

    def serve(app: str, kind: Kind, **options: Any) -> Stack:
        environment = {"PYTHONWARNINGS": "always", **options.pop("environment", {})}
        make: Callable[..., Stack] = local_stack
        # Requests tell each other what to do, and one process is looked at; a container has its supervisor.
        workers = "0"
        if kind.place == "compose":
            make = request.getfixturevalue("compose_stack")
            workers = "1"
        serve_args = ("--workers", workers, *options.pop("serve_args", ()))
        stack = make(
            f"{APPS}.{app}",
            serve_args=serve_args,
            app_dir=REPOSITORY,
            socket=kind.socket,
            loop=kind.loop,
            environment=environment,
            **options,
        )
        if stack.log.wait_ended(0):
            # A fixture has stopped it, to look at its end, and tests of the same kind come once more.
            stack.start()
        return stack

    return serve


@pytest.fixture(scope="session")
def http2_port(kind: Kind) -> Iterator[int]:
    """Where the Nginx of `behaviours` speaks HTTP/2 without TLS: a port for each kind."""
    with socket.socket() as held:
        # Bound, but not listening: Nginx can have this port, and nobody else gets it by chance.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def _http2_directives(port: int) -> str:
    address = f"127.0.0.1:{port}"
    version = choose_nginx().version
    if version is not None and version < (1, 25, 1):
        # A port that speaks HTTP/2 alone; the directive is of 1.25.1.
        return f"listen {address} http2;"
    return f"listen {address};\nhttp2 on;"


@pytest.fixture(scope="session")
def behaviours(
    kind: Kind, serve: Callable[..., LocalStack], http2_port: int
) -> Iterator[LocalStack]:
    """The stack that the tests of one kind share; it must outlive them, and end well."""
    stack = serve(
        "behaviours:application",
        kind,
        serve_args=("--websocket-deflate", "--mount", f"/wsgi={APPS}.plain_wsgi:application"),
        nginx_directives=DIRECTIVES + _http2_directives(http2_port),
    )
    yield stack
    assert stack.bridge.log.wait_ended(0) is False, "the bridge has ended"
    assert stack.stop() == 0
    assert_clean(stack)


def assert_clean(stack: Stack, *, but: str = "") -> None:
    """Whatever applications did: nothing was left behind, and no code of ours has complained.

    Args:
        stack: whose log is looked at.
        but: one complaint that others are to blame for.
    """
    log = stack.bridge_log
    for complaint in COMPLAINTS:
        assert complaint == but or complaint not in log
