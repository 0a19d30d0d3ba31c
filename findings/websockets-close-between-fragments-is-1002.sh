#!/usr/bin/env bash
# What a message in fragments changes for the frames between them, in two Python libraries for WebSockets
# that work without I/O (both on PyPI).
#
# RFC 6455, section 5.4: control frames may come between the fragments of a message. Section 5.5.1: who
# receives a close frame answers with one, typically with the code that came. IANA's registry has 1014 (Bad
# Gateway) among the codes that a close frame may carry.
#
# websockets 17.4 (websockets.protocol.Protocol):
# - a close frame with 1001 (a browser that leaves the page) between two fragments is answered with 1002;
#   the peer that left is told that it broke a rule. Between two messages it is answered with 1001.
# - a ping counts against what a message may still have: with max_size=10, a first fragment of 10 bytes and
#   then a ping of 5 bytes is answered with close 1009, although the message is no larger than allowed.
# wsproto 1.3.2 (wsproto.connection.Connection):
# - a close frame with 1014 is answered with 1002.
#
# Output seen:
#   websockets 17.4: close 1001 between messages -> 1001
#   websockets 17.4: close 1001 between fragments -> 1002
#   websockets 17.4: ping of 5 bytes behind a fragment of max_size -> 1009
#   wsproto 1.3.2: close 1013 -> 1013
#   wsproto 1.3.2: close 1014 -> 1002
set -euo pipefail

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"

python3 -m venv environment
environment/bin/python -m pip install --quiet --disable-pip-version-check \
    'websockets==17.4' 'wsproto==1.3.2' 2>/dev/null

cat > look.py <<'PYTHON'
import struct

from websockets.protocol import SERVER, Protocol
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection


def frame(opcode, payload=b"", fin=True):
    """A client's frame, with a mask of zeros."""
    return bytes([fin << 7 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


TEXT, CLOSE, PING = 1, 8, 9


def by_websockets(*frames, max_size=1000):
    protocol = Protocol(SERVER, max_size=max_size)
    protocol.receive_data(b"".join(frames))
    return protocol.close_sent.code + 0 if protocol.close_sent else None


def by_wsproto(*frames):
    connection = Connection(ConnectionType.SERVER)
    connection.receive_data(b"".join(frames))
    for event in connection.events():
        if isinstance(event, CloseConnection):
            answer = connection.send(event.response())
            return struct.unpack("!H", answer[2:4])[0]
    return None


def close(code):
    return frame(CLOSE, struct.pack("!H", code))


seen = [
    ("websockets 17.4: close 1001 between messages", by_websockets(frame(TEXT, b"a"), close(1001)), 1001),
    (
        "websockets 17.4: close 1001 between fragments",
        by_websockets(frame(TEXT, b"a", fin=False), close(1001)),
        1002,
    ),
    (
        "websockets 17.4: ping of 5 bytes behind a fragment of max_size",
        by_websockets(frame(TEXT, b"0123456789", fin=False), frame(PING, b"ping!"), max_size=10),
        1009,
    ),
    ("wsproto 1.3.2: close 1013", by_wsproto(close(1013)), 1013),
    ("wsproto 1.3.2: close 1014", by_wsproto(close(1014)), 1002),
]
for what, found, _ in seen:
    print(f"{what} -> {found}")
changed = [what for what, found, expected in seen if found != expected]
if changed:
    raise SystemExit(f"this has changed: {', '.join(changed)}")
PYTHON

environment/bin/python look.py
