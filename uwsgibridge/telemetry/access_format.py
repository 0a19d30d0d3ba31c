"""Lines of the access log in a format of the operator's, with the variables of uWSGI and of gunicorn.

A variable says what it says in the program that it comes from. What there is none of here, such as a core, is what a
worker of uWSGI with one thread says.
"""

from __future__ import annotations

import base64
import binascii
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from uwsgibridge.config.access_format import Piece, Variable
from uwsgibridge.protocol.request import Request
from uwsgibridge.system.process_figures import rss_bytes, size_bytes
from uwsgibridge.telemetry.access import Access, log_variables
from uwsgibridge.telemetry.access_text import MAX_LINE_BYTES, TimeOfLines, clf_time, cut, escape
from uwsgibridge.telemetry.line_stream import LineStream

# Gives what a variable says of an access; None for what is not known.
_Say: TypeAlias = Callable[[Access], str | None]

_UNKNOWN: Final = "-"
_MEBIBYTE: Final = 1_048_576

# Of a var on the wire: two bytes each for the size of its name and of its value.
_SIZES_OF_VAR: Final = 4


class FormattedAccessLog:
    """Writes a line for each access.

    Args:
        pieces: of the format.
        stream: where the lines go.
    """

    def __init__(self, pieces: Sequence[Piece], stream: LineStream) -> None:
        self._stream = stream
        literals = [piece for piece in pieces if isinstance(piece, str)]
        self._pieces: list[str | _Say] = [
            piece if isinstance(piece, str) else say_of(piece) for piece in pieces
        ]
        left = MAX_LINE_BYTES - 1 - len("".join(literals).encode())
        # What each value may have in a line that would be too long.
        self._most_bytes = left // max(1, len(pieces) - len(literals))

    def write(self, access: Access) -> None:
        """Write one line; from any thread."""
        self._stream.write(self.line(access) + "\n")

    def line(self, access: Access) -> str:
        """Make one line, without its end."""
        texts = [
            piece if isinstance(piece, str) else escape(_told(piece(access)))
            for piece in self._pieces
        ]
        line = "".join(texts)
        if len(line.encode()) >= MAX_LINE_BYTES:
            line = "".join(
                piece
                if isinstance(piece, str)
                else escape(cut(_told(piece(access)), self._most_bytes, escape))
                for piece in self._pieces
            )
        return line


def _told(text: str | None) -> str:
    return _UNKNOWN if text is None else text


def say_of(variable: Variable) -> _Say:
    """Give the function that says what a variable is for an access."""
    key = variable.key
    match variable.name:
        case "var":
            return _var(key)
        case "e":
            return _present(key)
        case "logvar":
            return lambda access: log_variables(access).get(key)
        case "i":
            return _present(_var_of_header(key))
        case "o":
            return lambda access: _header_of_answer(access, key)
    return VARIABLES[variable.name]


def _var_of_header(name: str) -> str:
    var = name.upper().replace("-", "_")
    return var if var in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{var}"


def _lines_of_head(access: Access) -> list[bytes]:
    head = access.answered.sent_head() if access.answered is not None else b""
    return head.split(b"\r\n")[1:]


def _header_of_answer(access: Access, name: str) -> str | None:
    wanted = name.encode("latin-1", "replace")
    values = [
        value.strip()
        for line_name, _, value in (line.partition(b":") for line in _lines_of_head(access))
        if line_name.lower() == wanted
    ]
    return b", ".join(values).decode("latin-1") if values else None


def _head_bytes(access: Access) -> int:
    head = access.answered.sent_head() if access.answered is not None else b""
    return len(head) + len(b"\r\n\r\n") if head else 0


def _var(name: str) -> _Say:
    """Say a var as uWSGI does, to which an empty one is not known."""
    return lambda access: access.request.vars.get(name) or None


def _present(name: str) -> _Say:
    """Say a var as gunicorn does, to which an empty one is empty."""
    return lambda access: access.request.vars.get(name)


def _target(request: Request) -> str:
    """Give path and query as the client wrote them."""
    variables = request.vars
    uri = variables.get("REQUEST_URI")
    if uri:
        return uri
    query = variables["QUERY_STRING"]
    path = variables["SCRIPT_NAME"] + variables["PATH_INFO"]
    return f"{path}?{query}" if query else path


def _user(access: Access) -> str | None:
    """Give the name that the frontend has checked; else the one that the client gives, as gunicorn does."""
    variables = access.request.vars
    if user := variables.get("REMOTE_USER"):
        return user
    scheme, _, encoded = variables.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip().encode("latin-1"), validate=True)
        return decoded.partition(b":")[0].decode() or None
    except (binascii.Error, ValueError):
        return None


def _packet_bytes(variables: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) + _SIZES_OF_VAR for name, value in variables.items())


def _started_at(access: Access) -> float:
    return time.time() - access.total_seconds


def _own_bytes(read: Callable[[int], int | None], unit: int) -> _Say:
    return lambda _access: str((read(os.getpid()) or 0) // unit)


def _whole(seconds: float, unit: float) -> str:
    return str(int(seconds * unit))


_clf = TimeOfLines(clf_time)
_ctime = TimeOfLines(lambda seconds: time.asctime(time.localtime(seconds)))


def _ltime(access: Access) -> str:
    return _clf.at(int(_started_at(access)))


# What each variable says. All names of `config.access_format` are here but those with a key.
VARIABLES: Final[Mapping[str, _Say]] = {
    # uWSGI's
    "uri": lambda access: _target(access.request),
    "method": _var("REQUEST_METHOD"),
    "user": _var("REMOTE_USER"),
    "addr": _var("REMOTE_ADDR"),
    "host": _var("HTTP_HOST"),
    "proto": _var("SERVER_PROTOCOL"),
    "uagent": _var("HTTP_USER_AGENT"),
    "referer": _var("HTTP_REFERER"),
    "status": lambda access: str(access.shown_status),
    "rsize": lambda access: str(access.body_bytes),
    "hsize": lambda access: str(_head_bytes(access)),
    "size": lambda access: str(_head_bytes(access) + access.body_bytes),
    "headers": lambda access: str(len(_lines_of_head(access))),
    "cl": lambda access: str(access.request.content_length),
    "micros": lambda access: _whole(access.total_seconds, 1e6),
    "msecs": lambda access: _whole(access.total_seconds, 1e3),
    "secs": lambda access: f"{access.total_seconds:f}",
    "tmsecs": lambda access: _whole(_started_at(access), 1e3),
    "tmicros": lambda access: _whole(_started_at(access), 1e6),
    "time": lambda access: _whole(_started_at(access), 1),
    "ltime": _ltime,
    "ftime": _ltime,
    "ctime": lambda access: _ctime.at(int(_started_at(access))),
    "epoch": lambda _access: _whole(time.time(), 1),
    "pid": lambda _access: str(os.getpid()),
    "wid": lambda _access: str(os.getpid()),
    "core": lambda _access: "0",
    "switches": lambda _access: "1",
    # uWSGI counts names and values.
    "vars": lambda access: str(2 * len(access.request.vars)),
    "pktsize": lambda access: str(_packet_bytes(access.request.vars)),
    "modifier1": lambda _access: "0",
    "modifier2": lambda _access: "0",
    "rss": _own_bytes(rss_bytes, 1),
    "rssM": _own_bytes(rss_bytes, _MEBIBYTE),
    "vsz": _own_bytes(size_bytes, 1),
    "vszM": _own_bytes(size_bytes, _MEBIBYTE),
    "werr": lambda access: str(int(not access.complete)),
    "rerr": lambda _access: "0",
    "ioerr": lambda access: str(int(not access.complete)),
    # gunicorn's
    "h": _present("REMOTE_ADDR"),
    "l": lambda _access: _UNKNOWN,
    "u": _user,
    "t": lambda _access: f"[{_clf.now()}]",
    "r": lambda access: (
        f"{access.request.method} {_target(access.request)} {access.request.vars['SERVER_PROTOCOL']}"
    ),
    "m": _present("REQUEST_METHOD"),
    "U": _present("PATH_INFO"),
    "q": _present("QUERY_STRING"),
    "H": _present("SERVER_PROTOCOL"),
    "s": lambda access: str(access.shown_status),
    "b": lambda access: str(access.body_bytes),
    "B": lambda access: str(access.body_bytes),
    "f": _present("HTTP_REFERER"),
    "a": _present("HTTP_USER_AGENT"),
    "T": lambda access: _whole(access.total_seconds, 1),
    "D": lambda access: _whole(access.total_seconds, 1e6),
    "M": lambda access: _whole(access.total_seconds, 1e3),
    "L": lambda access: f"{access.total_seconds:.6f}",
    "p": lambda _access: f"<{os.getpid()}>",
}
