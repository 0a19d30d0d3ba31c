"""Sends requests through a running Nginx to the bridge behind it, and says what arrived and how: ``nginx --check --probe``.

The workers of the supervisor answer them in the place of the applications, since the supervisor was told their token. What arrived
comes by the control socket, so that no client ever sees it.
"""

from __future__ import annotations

import contextlib
import http.client
import secrets
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

# How long an answer may take, and how long something counts as held back that would come at once otherwise.
_ANSWER_SECONDS: Final = 10.0
_HELD_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.05

# Headers by which a probe sees what becomes of names of this kind.
_PLAIN: Final = "X-Uwsgibridge-Plain"
_UNDERSCORE: Final = "X_Uwsgibridge_Underscore"
UNDERSCORE_VAR: Final = "HTTP_X_UWSGIBRIDGE_UNDERSCORE"

# What Nginx's statuses say of a large head, and of a large body.
_ANSWERS_TO_HEADS: Final = {200: True, 502: False}
_ANSWERS_TO_BODIES: Final = {200: True, 413: False}

# Larger heads are not tried.
MOST_HEAD_BYTES: Final = 64 * 1024


class Ask(Protocol):
    """Tells a token to the supervisor, and gives what has arrived with it so far."""

    def __call__(self, token: str, *, ends: bool = False) -> Mapping[str, Any]:
        """Have the token count, or no more."""


class ProbeError(Exception):
    """A probe can't be made; the message is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a probe has seen.

    Attributes:
        url: that was asked for.
        pid: of the worker that the first request has reached.
        variables: the vars of that request, without the probe's own headers.
        is_response_buffered: whether the first part of an answer waits for the second one. This and what follows is None
            where it was not tried, or Nginx answered by itself, as it may to a POST.
        is_request_buffered: whether a request waits for the end of its body.
        head_bytes: how large the head was that was tried; 0 where none was.
        passes_head: whether it came to the client.
        body_bytes: how large a body was announced; 0 where none was.
        lets_body_in: whether Nginx let it in.
    """

    url: str
    pid: int
    variables: Mapping[str, str]
    is_response_buffered: bool | None
    is_request_buffered: bool | None
    head_bytes: int
    passes_head: bool | None
    body_bytes: int
    lets_body_in: bool | None

    @property
    def passes_underscores(self) -> bool:
        """Whether a header with an underscore in its name becomes a var."""
        return UNDERSCORE_VAR in self.variables

    @property
    def params(self) -> dict[str, str]:
        """The vars that are no headers."""
        return {name: it for name, it in self.variables.items() if not name.startswith("HTTP_")}


def observe(url: str, ask: Ask, *, head_bytes: int, body_bytes: int) -> Observed:
    """Send the requests of a probe.

    Args:
        url: of an application, through Nginx.
        ask: has the workers know a token.
        head_bytes: what a head may have that Nginx is to pass on (``--frontend-buffer-bytes``).
        body_bytes: what a body may have that Nginx is to let in (``--max-body-bytes``); 0 is no limit.

    Raises:
        ProbeError: no request arrived; the message says what came instead.
    """
    sender = _Sender(url, ask)
    try:
        return _observe(url, sender, head_bytes, body_bytes)
    finally:
        sender.end()


def _observe(url: str, sender: _Sender, head_bytes: int, body_bytes: int) -> Observed:
    first = sender.send_first()
    head_bytes = head_bytes if head_bytes <= MOST_HEAD_BYTES else 0
    variables = {
        name: it for name, it in first["vars"].items() if name != "HTTP_X_UWSGIBRIDGE_PLAIN"
    }
    return Observed(
        url,
        first["pid"],
        variables,
        is_response_buffered=sender.is_held_back(),
        is_request_buffered=sender.waits_for_body(),
        head_bytes=head_bytes,
        passes_head=sender.passes_head(head_bytes) if head_bytes else None,
        body_bytes=body_bytes,
        lets_body_in=sender.lets_in(body_bytes) if body_bytes else None,
    )


class _Sender:
    def __init__(self, url: str, ask: Ask) -> None:
        self._url = _split(url)
        self._ask = ask
        self._token = secrets.token_hex(16)
        self._number = 0

    def send_first(self) -> Mapping[str, Any]:
        """Send a plain request, and give what arrived."""
        self._ask(self._token)
        with self._connection() as connection:
            self._begin(connection, "GET", "short", {_PLAIN: "1", _UNDERSCORE: "1"})
            answer = connection.getresponse()
            answer.read()
        arrived = self._arrived()
        if arrived is None:
            raise ProbeError(_why_not_arrived(self._url.geturl(), answer))
        return arrived

    def end(self) -> None:
        """Have the workers forget the token."""
        self._ask(self._token, ends=True)

    def is_held_back(self) -> bool | None:
        """Whether Nginx keeps the first part of an answer until the second one is there."""
        with self._connection() as connection:
            self._begin(connection, "GET", "parts")
            answer = connection.getresponse()
            answer.read1(64)
            first_at = time.monotonic()
            answer.read()
            is_held = time.monotonic() - first_at < _HELD_SECONDS / 2
            return is_held if answer.status == 200 else None

    def waits_for_body(self) -> bool | None:
        """Whether Nginx keeps a request until its body is whole."""
        with self._connection() as connection:
            self._begin(connection, "POST", "short", {"Content-Length": "2"})
            connection.send(b"a")
            deadline = time.monotonic() + _HELD_SECONDS
            while (arrived := self._arrived()) is None and time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS)
            # Who does not take a POST may have closed already.
            with contextlib.suppress(ConnectionError):
                connection.send(b"b")
            answer = connection.getresponse()
            return arrived is None if answer.status == 200 else None

    def passes_head(self, head_bytes: int) -> bool | None:
        """Whether Nginx passes a head of so many bytes on."""
        with self._connection() as connection:
            self._begin(connection, "GET", f"head={head_bytes}")
            return _ANSWERS_TO_HEADS.get(connection.getresponse().status)

    def lets_in(self, body_bytes: int) -> bool | None:
        """Whether Nginx lets a body of so many bytes in, of which none is sent: it refuses by the length alone."""
        with self._connection(_HELD_SECONDS) as connection:
            self._begin(connection, "POST", "short", {"Content-Length": str(body_bytes)})
            try:
                return _ANSWERS_TO_BODIES.get(connection.getresponse().status)
            except TimeoutError:
                return True  # it waits for the body

    def _begin(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        form: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._number += 1
        target = self._url.path or "/"
        connection.putrequest(method, f"{target}?{self._url.query}" if self._url.query else target)
        connection.putheader("Uwsgibridge-Probe", f"{self._token} {self._number} {form}")
        connection.putheader("User-Agent", "uwsgibridge")
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()

    def _arrived(self) -> Mapping[str, Any] | None:
        """Give what has arrived of the last request, if it has."""
        arrived = self._ask(self._token)["arrived"]
        return next((it for it in arrived if it["number"] == self._number), None)

    @contextlib.contextmanager
    def _connection(self, seconds: float = _ANSWER_SECONDS) -> Iterator[http.client.HTTPConnection]:
        url = self._url
        assert url.hostname
        connection = (
            http.client.HTTPSConnection(url.hostname, url.port, timeout=seconds)
            if url.scheme == "https"
            else http.client.HTTPConnection(url.hostname, url.port, timeout=seconds)
        )
        try:
            yield connection
        except ssl.SSLError as error:
            raise ProbeError(
                f"--probe {url.geturl()}: TLS fails: {error.reason or error}"
            ) from None
        except TimeoutError:
            raise ProbeError(f"--probe {url.geturl()}: no answer within {seconds:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or error or type(error).__name__
            raise ProbeError(f"--probe {url.geturl()}: {reason}") from None
        finally:
            connection.close()


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right:
        raise ProbeError(f"--probe {url}: a URL such as http://127.0.0.1/ is wanted")
    return parts


def _why_not_arrived(url: str, answer: http.client.HTTPResponse) -> str:
    to = answer.headers.get("Location")
    if to:
        return f"--probe {url}: Nginx redirects it to {urljoin(url, to)}: name that URL"
    return (
        f"--probe {url}: no worker of this supervisor got the request, and the answer was {answer.status}: name a URL that "
        "Nginx passes to it, or another supervisor with --control-socket"
    )
