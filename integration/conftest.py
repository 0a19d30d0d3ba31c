"""The stacks that every test runs on, and how tests speak HTTP to them.

A test that takes `stack` runs once for each place (processes here, Docker Compose), socket and
interface; marked ``every_loop``, also on the event loops that are not asyncio.
"""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

import pytest
import requests

from uwsgibridge.frontend.binary import NginxNotFoundError, choose_nginx

if TYPE_CHECKING:
    from uwsgibridge.testing import ComposeStack, LocalStack

    Stack: TypeAlias = LocalStack | ComposeStack

REPOSITORY = Path(__file__).parents[1]
APPS = Path(__file__).parent / "apps"


@dataclass(frozen=True)
class Kind:
    """One combination that the tests run on."""

    place: Literal["local", "compose"]
    socket: Literal["tcp", "unix"]
    interface: Literal["wsgi", "asgi"]
    loop: Literal["asyncio", "uvloop", "trio"] = "asyncio"

    def __str__(self) -> str:
        loop = "" if self.loop == "asyncio" else f"-{self.loop}"
        return f"{self.place}-{self.socket}-{self.interface}{loop}"


KINDS = [
    Kind(place, socket, interface)
    for place in ("local", "compose")
    for socket in ("tcp", "unix")
    for interface in ("wsgi", "asgi")
]
OTHER_LOOPS = [
    Kind("local", socket, "asgi", loop) for loop in ("uvloop", "trio") for socket in ("tcp", "unix")
]

# What Nginx sends in every location below; unlike the shipped ones they let a Proxy header through.
_PARAMS = """
    uwsgi_param QUERY_STRING $query_string;
    uwsgi_param REQUEST_METHOD $request_method;
    uwsgi_param CONTENT_TYPE $content_type;
    uwsgi_param REQUEST_URI $request_uri;
    uwsgi_param PATH_INFO $document_uri;
    uwsgi_param SERVER_NAME $server_name;
    uwsgi_param REMOTE_ADDR $remote_addr;
    uwsgi_param REMOTE_PORT $remote_port;
"""
_LENGTH = "uwsgi_param CONTENT_LENGTH $content_length;"
_PLAIN = """
    uwsgi_param REQUEST_SCHEME $scheme;
    uwsgi_param SERVER_PORT $server_port;
    uwsgi_param SERVER_PROTOCOL $server_protocol;
"""


def _location(name: str, *directives: str, modifier1: int = 30) -> str:
    """Write a location below which the application answers as it does below the root."""
    lines = "\n    ".join(directives)
    return f"""
location /{name}/ {{
    uwsgi_pass $uwsgibridge_upstream;
    uwsgi_modifier1 {modifier1};
    uwsgi_param SCRIPT_NAME /{name};
    {_PARAMS}
    {lines}
}}
"""


INTRUDER_FILE = "/app/intruder/intruder.py"

NGINX_DIRECTIVES = "".join(
    (
        _location("cut", _PLAIN, _LENGTH),
        _location("set-header", _PLAIN, _LENGTH, 'uwsgi_param HTTP_X_USER "from nginx";'),
        _location(
            "https",
            _LENGTH,
            "uwsgi_param REQUEST_SCHEME https;",
            "uwsgi_param SERVER_PORT 443;",
            "uwsgi_param SERVER_PROTOCOL HTTP/2.0;",
        ),
        _location(
            "https-of-apache",
            _LENGTH,
            "uwsgi_param HTTPS on;",
            "uwsgi_param SERVER_PROTOCOL HTTP/1.1;",
        ),
        _location("command", _PLAIN, _LENGTH, modifier1=22),
        _location("no-length", _PLAIN, 'uwsgi_param CONTENT_LENGTH "";'),
        _location("wrong-length", _PLAIN, "uwsgi_param CONTENT_LENGTH 0x10;"),
        _location(
            "unbuffered",
            _PLAIN,
            _LENGTH,
            "uwsgi_buffering off;",
            "uwsgi_request_buffering off;",
            "client_max_body_size 0;",
        ),
        _location(
            "intruding",
            _PLAIN,
            _LENGTH,
            *(
                f"uwsgi_param {name} {value};"
                for name, value in {
                    "UWSGI_FILE": INTRUDER_FILE,
                    "UWSGI_SCRIPT": "intruder:application",
                    "UWSGI_MODULE": "intruder",
                    "UWSGI_CALLABLE": "intruder",
                    "UWSGI_HOME": "/app/intruder",
                    "UWSGI_CHDIR": "/",
                    "UWSGI_SETENV": "INTRUDER=1",
                    "UWSGI_TOUCH_RELOAD": INTRUDER_FILE,
                    "UWSGI_POSTFILE": INTRUDER_FILE,
                    "UWSGI_CACHE_GET": "intruder",
                    "UWSGI_APPID": "intruder",
                }.items()
            ),
        ),
        """
# Of the two vars that say what a request is about, neither.
location /bare/ {
    uwsgi_pass $uwsgibridge_upstream;
    uwsgi_param REMOTE_ADDR $remote_addr;
}
location /by-http/ {
    proxy_pass http://$uwsgibridge_upstream;
}
location /internal/ {
    internal;
    default_type text/plain;
    # Nginx knows the names of the charsets that its configuration has.
    charset koi8-r;
    return 200 "from nginx itself";
}
""",
    )
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_loop: also runs on uvloop and on trio")
    config.addinivalue_line(
        "markers", "only(**fields): runs on kinds of this place, interface, ..."
    )


def pytest_report_header() -> str:
    try:
        nginx = choose_nginx()
    except NginxNotFoundError as error:
        return f"nginx: {error}"
    return f"nginx: {nginx}{f'; {nginx.note}' if nginx.note else ''}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "stack" not in metafunc.fixturenames:
        return
    kinds = [*KINDS, *(OTHER_LOOPS if metafunc.definition.get_closest_marker("every_loop") else ())]
    for marker in metafunc.definition.iter_markers("only"):
        kinds = [
            kind
            for kind in kinds
            if all(getattr(kind, name) == value for name, value in marker.kwargs.items())
        ]
    # By session: tests are then ordered by stack, and each is started when it is needed.
    metafunc.parametrize("kind", kinds, ids=str, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Containers stay up until the end, and their health checks would slow all other tests down.
    items.sort(key=_needs_containers)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep together what shares its stacks, where tests run in several processes."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # it has no types
        def _split_scope(self, nodeid: str) -> str:
            return _company(nodeid)

    return Scheduling(config, log)


def _company(nodeid: str) -> str:
    """Name what runs in one process with a test: its kind, over all files, or else its file."""
    file, _, test = nodeid.partition("::")
    first, *more = test.partition("[")[2].rstrip("]").split("-")
    if first in {"local", "compose"}:
        return "-".join((first, *more[:2]))
    return f"{file}-{first}" if first in {"tcp", "unix"} else file


def _needs_containers(item: pytest.Item) -> bool:
    assert isinstance(item, pytest.Function)
    kind = item.callspec.params.get("kind") if hasattr(item, "callspec") else None
    place = getattr(kind, "place", None)  # each directory has kinds of its own
    if place is not None:
        return str(place) == "compose"
    return "compose_stack" in item.fixturenames and "local_stack" not in item.fixturenames


@pytest.fixture(scope="session")
def compose_stack(compose_stack: Callable[..., ComposeStack]) -> Callable[..., ComposeStack]:
    """Start a `ComposeStack` from this checkout."""
    return partial(compose_stack, project_dir=REPOSITORY)


@pytest.fixture(scope="session")
def start_stack(
    request: pytest.FixtureRequest, local_stack: Callable[..., LocalStack]
) -> Callable[..., Stack]:
    """Start a stack of a kind with the exercises as its application."""

    def start(kind: Kind, **options: Any) -> Stack:
        make: Callable[..., Stack] = local_stack
        if kind.place == "compose":
            make = request.getfixturevalue("compose_stack")
        return make(
            f"exercises.{kind.interface}:application",
            app_dir=APPS,
            socket=kind.socket,
            interface=kind.interface,
            loop=kind.loop,
            nginx_directives=NGINX_DIRECTIVES,
            # What Python has to say about the bridge's own code is read at the end.
            environment={"PYTHONWARNINGS": "always"},
            **options,
        )

    return start


@pytest.fixture(scope="session")
def stack(kind: Kind, start_stack: Callable[..., Stack]) -> Iterator[Stack]:
    """The stack that the tests of one kind share; the bridge must have lived through all of them."""
    stack = start_stack(kind, serve_args=("--threads", "4"))
    pid = stack.pid
    yield stack
    # A deployment is stopped and killed by tests of its own.
    assert kind.place == "compose" or stack.pid == pid
    assert "Warning" not in stack.bridge_log
    # Whatever tests asked for: neither the bridge's own code nor its event loop has complained.
    assert "never retrieved" not in stack.bridge_log
    assert "Exception ignored" not in stack.bridge_log


@pytest.fixture(scope="session")
def client() -> Iterator[requests.Session]:
    """A client that speaks to nobody but the address it is given."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def token() -> str:
    """Something that no other test has in its paths."""
    return secrets.token_hex(6)


@dataclass(frozen=True)
class Answer:
    """What `exchange` got."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture
def exchange() -> Callable[..., Answer]:
    """Send a request exactly as it is written: no normalised path, no added or joined headers."""

    def exchange(
        url: str,
        target: str,
        *,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Answer:
        where = urlsplit(url)
        assert where.hostname
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=20)
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders(body)
            with connection.getresponse() as response:
                return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    return exchange
