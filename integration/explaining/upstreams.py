"""Servers that fail in each way that Nginx has a message for: of uwsgi, and of names."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

PATIENCE_SECONDS: Final = 20.0
_MANY: Final = 8_000_000
_SOME: Final = 100_000


# The type of a record of TLS (RFC 8446, 5.1), where a packet of uwsgi has its first modifier.
_TLS_HANDSHAKE: Final = 22


class Signals:
    """What behaviours wait for.

    Attributes:
        is_read: a client has the first part of an answer.
        is_over: no test needs a server any more that waits.
    """

    def __init__(self) -> None:
        self.is_read = threading.Event()
        self.is_over = threading.Event()


Behaviour: TypeAlias = Callable[[socket.socket, Signals], None]


def closes(_connection: socket.socket, _signals: Signals) -> None:
    """Answer nothing; who calls this closes."""


def reads_on(connection: socket.socket, _signals: Signals) -> None:
    """Answer nothing until the peer has closed."""
    while connection.recv(_SOME):
        pass


def reads_nothing(_connection: socket.socket, signals: Signals) -> None:
    """Leave what the peer sends where it is."""
    signals.is_over.wait(PATIENCE_SECONDS)


def resets(connection: socket.socket, _signals: Signals) -> None:
    """Break off in a way that the peer sees on TCP."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def resets_later(connection: socket.socket, signals: Signals) -> None:
    """Break off when the client has what came before."""
    signals.is_read.wait(PATIENCE_SECONDS)
    resets(connection, signals)


def resets_when_spoken_to(connection: socket.socket, signals: Signals) -> None:
    """Break off when the peer has sent something."""
    connection.recv(1)
    resets(connection, signals)


def answers(head: str, body: bytes = b"", *, then: Behaviour = closes) -> Behaviour:
    """Make a behaviour: a head as it is written, a body, and what comes then."""

    def behave(connection: socket.socket, signals: Signals) -> None:
        connection.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
        then(connection, signals)

    return behave


_OK: Final = "HTTP/1.1 200 OK"
_LENGTH: Final = f"{_OK}\nContent-Length: 2"
_BEGUN: Final = f"{_OK}\nContent-Length: 100\nX-Accel-Buffering: no"
_SWITCHED: Final = "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: upgrade"

BEHAVIOURS: Final[Mapping[str, Behaviour]] = {
    "silent": reads_on,
    "deaf": reads_nothing,
    "closes": closes,
    "resets": resets,
    "stalls": answers(_BEGUN, b"begun", then=reads_on),
    "cuts": answers(_BEGUN, b"begun"),
    "begins-and-resets": answers(_BEGUN, b"begun", then=resets_later),
    "large-head": answers(f"{_OK}\nX-Large: {'x' * 40_000}"),
    "bad-header": answers(f"{_OK}\nX-Bad\0Name: 1"),
    "bad-status": answers("Status: fine"),
    "two-framings": answers(f"{_LENGTH}\nTransfer-Encoding: chunked", b"ok"),
    "repeats": answers(f"{_LENGTH}\nContent-Length: 2", b"ok"),
    "too-much": answers(_LENGTH, b"more than that"),
    "large": answers(_OK, bytes(_MANY)),
    "upgrades": answers(_SWITCHED, then=reads_on),
    "upgrades-and-resets": answers(_SWITCHED, then=resets_when_spoken_to),
    "refuses": answers("HTTP/1.1 418 I am a teapot", b"no"),
    "redirects": answers(f"{_OK}\nX-Accel-Redirect: /redirects"),
    "names-a-file": answers(f"{_OK}\nX-Accel-Redirect: /protected/missing"),
}


class FailingServer:
    """Speaks uwsgi over TCP: what is in the var ``BEHAVIOUR`` says how it fails."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.signals = Signals()
        self.asked: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept nothing more, and let go of what waits."""
        self.signals.is_over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(PATIENCE_SECONDS)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            params = _read_params(connection)
            if not params:
                connection.sendall(b"no TLS here")
                return
            self.asked[params["PATH_INFO"]].set()
            BEHAVIOURS[params["BEHAVIOUR"]](connection, self.signals)


class NameServer:
    """Speaks DNS over UDP: no name exists, and of names below ``silent`` it does not tell even that."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Answer nothing more."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", self.port))

    def _serve(self) -> None:
        with self._socket as served:
            while True:
                question, peer = served.recvfrom(512)
                if not question:
                    return
                if b"silent" not in question:
                    # RFC 1035, 4.1.1: an answer, recursion available, and the code 3, Name Error.
                    served.sendto(question[:2] + b"\x81\x83" + question[4:], peer)


@contextlib.contextmanager
def full_backlog(listener: socket.socket) -> Iterator[None]:
    """Fill the backlog of a bound socket that nobody accepts from."""
    listener.listen(0)
    with contextlib.ExitStack() as held:
        for _ in range(3):
            one = held.enter_context(socket.socket(listener.family))
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(listener.getsockname())
        yield


def _read_params(connection: socket.socket) -> dict[str, str]:
    with connection.makefile("rb", buffering=0) as reader:
        head = _exactly(reader.read, 4)
        if head[0] == _TLS_HANDSHAKE:
            return {}
        body = _exactly(reader.read, int.from_bytes(head[1:3], "little"))
    params, place = {}, 0
    while place < len(body):
        texts = []
        for _ in range(2):
            size = int.from_bytes(body[place : place + 2], "little")
            texts.append(body[place + 2 : place + 2 + size].decode("latin-1"))
            place += 2 + size
        params[texts[0]] = texts[1]
    return params


def _exactly(read: Callable[[int], bytes | None], size: int) -> bytes:
    got = b""
    while len(got) < size:
        piece = read(size - len(got))
        if not piece:
            raise ConnectionError("the packet ended early")
        got += piece
    return got
