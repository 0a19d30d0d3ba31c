"""What an application's threads go through: sleeping, hanging, being left by exceptions, being changed."""

from __future__ import annotations

import contextvars
import decimal
import json
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from urllib.parse import parse_qs

from .checked import checked

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

TEXT: Final = [("Content-Type", "text/plain")]

# Longer than any test; a daemon thread that waits keeps nobody.
_FOR_EVER_SECONDS: Final = 600.0

gates: defaultdict[str, threading.Event] = defaultdict(threading.Event)
eight = threading.Barrier(8)
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def _handle(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    name = environ["PATH_INFO"].strip("/").replace("-", "_")
    return HANDLERS[name](environ, start_response)


def sleep(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    time.sleep(0.1)
    start_response("200 OK", TEXT)
    return [b"slept"]


def thread(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Tell in which thread this is, and what is new about it."""
    me = threading.current_thread()
    facts = {
        "name": me.name,
        "ident": me.ident,
        "context": [variable.get(), decimal.getcontext().prec],
        "environ": {
            name: environ[f"wsgi.{name}"] for name in ("multithread", "multiprocess", "run_once")
        },
    }
    variable.set("set by another request")
    decimal.getcontext().prec = 7
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(facts).encode()]


def context_of_the_body(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """The whole answer is made in one context, close() included."""
    variable.set("in the call")
    start_response("200 OK", TEXT)
    yield variable.get().encode()
    variable.set("in the body")
    yield b", "
    yield variable.get().encode()


def exit_(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    sys.exit(7)


def interrupt(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    raise KeyboardInterrupt


def read(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Hold the thread until the whole body has come."""
    environ["wsgi.errors"].write("reading\n")
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response("200 OK", TEXT)
    return [b"read %d" % len(body)]


def thread_of_eight(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answer when eight such requests run."""
    eight.wait(_FOR_EVER_SECONDS)
    start_response("200 OK", TEXT)
    return [threading.current_thread().name.encode()]


def large(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return [bytes(5_000_000)]


def _gate(environ: Environ) -> threading.Event:
    return gates[parse_qs(environ["QUERY_STRING"])["gate"][0]]


def hang_at_a_gate(gate: threading.Event) -> None:
    """Hang, under a name that is looked for in the log."""
    gate.wait(_FOR_EVER_SECONDS)


def hang(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    hang_at_a_gate(_gate(environ))
    start_response("200 OK", TEXT)
    return [b"late"]


def hang_in_the_body(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b"the first half"
    hang_at_a_gate(_gate(environ))
    yield b"late"


def open_gate_when_read(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Read all of the body, let those at the gate go on, and answer."""
    answer = read(environ, start_response)
    _gate(environ).set()
    return answer


def set_default_timeout(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """For the application's own sockets, as many do; it is a setting of the whole process."""
    socket.setdefaulttimeout(30)
    start_response("200 OK", TEXT)
    return [b"set"]


HANDLERS: Final[dict[str, Callable[[Environ, StartResponse], Iterable[bytes]]]] = {
    "sleep": sleep,
    "thread": thread,
    "context_of_the_body": context_of_the_body,
    "exit": exit_,
    "interrupt": interrupt,
    "read": read,
    "thread_of_eight": thread_of_eight,
    "large": large,
    "hang": hang,
    "hang_in_the_body": hang_in_the_body,
    "open_gate_when_read": open_gate_when_read,
    "set_default_timeout": set_default_timeout,
}

application = checked(_handle)
