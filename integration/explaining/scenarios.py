"""Requests that fail, each by a location of its own: what is asked, and what Nginx has to say of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from integration.explaining.upstreams import BEHAVIOURS, PATIENCE_SECONDS

if TYPE_CHECKING:
    from integration.explaining.running import Place

Ask: TypeAlias = "Callable[[Place, str], object]"

_LARGE: Final = 8_000_000


@dataclass(frozen=True)
class Scenario:
    """A request that fails.

    Attributes:
        name: the path, without its slash.
        entry: of the catalogue, which has to explain Nginx's error log here; empty where that has no line.
        upstream: what fails: a behaviour of `FailingServer`, or an address of `Place.upstreams`; empty for no upstream.
        directives: further lines of the location.
        ask: sends the request.
        access: the entry for the line of the access log; empty where its status is none of a failure.
        since: the first Nginx that does so.
    """

    name: str
    entry: str
    upstream: str
    directives: str = ""
    ask: Ask = lambda place, path: place.ask(path)
    access: str = ""
    since: tuple[int, ...] = ()

    def location(self, place: Place) -> str:
        """Write the location."""
        target = place.upstreams.get(self.upstream, f"127.0.0.1:{place.failing.port}")
        resolver = f"resolver 127.0.0.1:{place.names.port}; resolver_timeout 200ms"
        lines = [self.directives.format(directory=place.directory, resolver=resolver)]
        if self.upstream:
            lines.append(f"uwsgi_pass {target};")
        if self.upstream in BEHAVIOURS:
            lines.append(f"uwsgi_param BEHAVIOUR {self.upstream};")
        return f"location = /{self.name} {{ {place.params} {' '.join(lines)} }}\n"


def _ask_twice(place: Place, path: str) -> None:
    place.ask(path)
    place.ask(path)


def _upload(place: Place, path: str) -> None:
    place.ask(path, method="POST", body=bytes(_LARGE))


def _upload_chunks(place: Place, path: str) -> None:
    place.send(
        b"POST %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"800\r\n%b\r\n0\r\n\r\n" % (path.encode(), bytes(0x800))
    )


def _leave(place: Place, path: str) -> None:
    with place.connect() as connection:
        connection.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
        assert place.failing.asked[path].wait(PATIENCE_SECONDS)


def _leave_in_an_upload(place: Place, path: str) -> None:
    with place.connect() as connection:
        connection.sendall(
            b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nbegun" % path.encode()
        )


def _stall_in_an_upload(place: Place, path: str) -> None:
    place.send(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nbegun" % path.encode())


def _read_slowly(place: Place, path: str) -> None:
    with place.connect(receive_buffer_bytes=4096) as connection:
        connection.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
        place.wait_for_error(path)


def _read_the_first_part(place: Place, path: str) -> None:
    with place.connect() as connection:
        connection.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
        got = b""
        while not got.endswith(b"begun"):
            got += connection.recv(4096)
        place.failing.signals.is_read.set()
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(4096):
                pass


def _upgrade(place: Place, path: str) -> None:
    with place.connect() as connection:
        connection.sendall(
            b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
            % path.encode()
        )
        assert b"101" in connection.recv(4096)
        connection.sendall(b"frame")
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(4096):
                pass


def _large_headers(place: Place, path: str) -> None:
    place.ask(path, *(f"X-{number}: {'x' * 30_000}" for number in range(3)))


def _too_large_header(place: Place, path: str) -> None:
    place.ask(path, f"X-Large: {'x' * 40_000}")


def _underscore(place: Place, path: str) -> None:
    place.ask(path, "X_Under: 1")


def _upload_to_a_locked_directory(place: Place, path: str) -> None:
    with place.without_rights(place.directory / "locked"):
        place.ask(path, method="POST", body=bytes(100_000))


_READ: Final = "uwsgi_read_timeout 200ms;"
_RESOLVER: Final = "{resolver};"
_LARGE_BODY: Final = "client_max_body_size 0;"

SCENARIOS: Final = (
    # There is no connection.
    Scenario("refused", "connection-refused", "nobody", access="access-502"),
    Scenario("refused-unix", "connection-refused", "stale", access="access-502"),
    Scenario("missing", "socket-missing", "missing", access="access-502"),
    Scenario("forbidden", "socket-forbidden", "forbidden", access="access-502"),
    Scenario("full", "backlog-full", "full-unix", access="access-502"),
    Scenario("slow-connect", "connect-timed-out", "full-tcp", "uwsgi_connect_timeout 200ms;", access="access-504"),
    Scenario("unreachable", "unreachable", "nowhere", access="access-502"),
    Scenario("disabled", "server-disabled", "group-of-one-dead", access="access-502"),
    Scenario("no-live", "no-live-upstreams", "group-of-dead", ask=_ask_twice, access="access-502"),
    Scenario("no-name", "name-unknown", "$unknown_name", _RESOLVER, access="access-502"),
    Scenario("no-name-server", "resolver-timed-out", "$silent_name", _RESOLVER, access="access-502"),
    Scenario("no-resolver", "no-resolver", "$any_name", access="access-502"),
    Scenario("tls", "tls-failed", "suwsgi", access="access-502"),
    # There is no answer.
    Scenario("silent", "answer-timed-out", "silent", _READ, access="access-504"),
    Scenario("deaf", "send-timed-out", "deaf", f"{_LARGE_BODY} uwsgi_send_timeout 200ms;", ask=_upload, access="access-504"),
    Scenario("closes", "closed-before-answer", "closes", access="access-502"),
    Scenario("resets", "reset-before-answer", "resets", access="access-502"),
    Scenario("too-big-request", "request-too-big", "closes", ask=_large_headers, access="access-500"),
    # The answer is wrong.
    Scenario("large-head", "head-too-big", "large-head", access="access-502"),
    Scenario("bad-header", "invalid-header", "bad-header", access="access-502"),
    Scenario("bad-status", "invalid-status", "bad-status", access="access-502"),
    Scenario("two-framings", "length-and-chunked", "two-framings", access="access-502", since=(1, 23)),
    Scenario("repeats", "duplicate-header", "repeats", access="access-502", since=(1, 23)),
    Scenario("too-much", "longer-than-length", "too-much"),
    Scenario("large", "answer-in-file", "large", ask=_read_slowly),
    # The answer breaks off.
    Scenario("stalls", "reading-timed-out", "stalls", _READ),
    Scenario("cuts", "closed-in-answer", "cuts"),
    Scenario("resets-later", "reset-in-answer", "begins-and-resets", ask=_read_the_first_part),
    Scenario("tunnel-idle", "tunnel-timed-out", "upgrades", _READ, ask=_upgrade),
    Scenario("tunnel-reset", "tunnel-reset", "upgrades-and-resets", ask=_upgrade),
    # The client.
    Scenario("left", "client-left", "silent", ask=_leave, access="access-499"),
    Scenario("left-uploading", "client-left-uploading", "closes", ask=_leave_in_an_upload, access="access-400"),
    Scenario("stalled-upload", "", "closes", "client_body_timeout 200ms;", ask=_stall_in_an_upload, access="access-408"),
    Scenario("reads-slowly", "client-reads-slowly", "large", "send_timeout 200ms; uwsgi_max_temp_file_size 0;", ask=_read_slowly),
    Scenario("too-large", "body-too-large", "closes", "client_max_body_size 1k;", ask=_upload, access="access-413"),
    Scenario("too-large-chunks", "body-too-large", "closes", "client_max_body_size 1k;", ask=_upload_chunks, access="access-413"),
    Scenario("upload-in-file", "upload-in-file", "large", _LARGE_BODY, ask=_upload),
    Scenario("large-header", "request-header-too-large", "closes", ask=_too_large_header, access="access-400"),
    Scenario("underscore", "header-dropped", "too-much", ask=_underscore),
    # Nginx itself.
    Scenario("locked", "temporary-file-failed", "closes", "client_body_temp_path {directory}/locked; client_body_buffer_size 1k;", ask=_upload_to_a_locked_directory, access="access-500"),
    Scenario("guarded", "auth-request-failed", "closes", "auth_request /guard;", access="access-500"),
    Scenario("limited", "rate-limited", "too-much", "limit_req zone=rate;", ask=_ask_twice, access="access-503"),
    Scenario("redirects", "redirection-cycle", "redirects", access="access-500"),
    Scenario("names-a-file", "file-missing", "names-a-file"),
)  # fmt: skip
