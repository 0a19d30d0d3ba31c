"""Feeds the accelerator millions of broken packets and headers, under AddressSanitizer and UndefinedBehaviorSanitizer.

``make fuzz-fast`` runs it, ``ARGS="--packets 10000000 --seed 7"`` more of it. It compiles the accelerator anew, with both
sanitizers, and runs itself in an interpreter that they watch. Of each thousand packets, one is compared with what
Python makes of it. At the end, the number of memory blocks tells whether something was left behind.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.util
import os
import random
import socket
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

from tests.fuzz.asgi_under_sanitizers import AsgiFeeder

if TYPE_CHECKING:
    from uwsgibridge.fast import Accelerator

ROOT: Final = Path(__file__).parents[2]
SANITIZE: Final = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")

# Of the packets, one in so many is compared with what Python says.
COMPARED: Final = 1000

# And one in so many goes through a connection.
RECEIVED: Final = 20

# For so many packets, an application is asked for two answers, which takes longer.
PACKETS_FOR_A_REQUEST: Final = 200

# The memos of names and types are full after some thousand packets, and grow no more.
WARM_UP_PACKETS: Final = 50_000


# What was freed is kept for a while, so that a use of it is seen.
QUARANTINE_MB: Final = 8
MOST_GROWTH_BYTES: Final = 3 * QUARANTINE_MB << 20

NAMES: Final = (
    b"REQUEST_METHOD", b"REQUEST_URI", b"PATH_INFO", b"SCRIPT_NAME", b"QUERY_STRING", b"CONTENT_TYPE",
    b"CONTENT_LENGTH", b"SERVER_NAME", b"SERVER_PORT", b"SERVER_PROTOCOL", b"REMOTE_ADDR", b"REMOTE_PORT",
    b"REQUEST_SCHEME", b"HTTPS", b"UWSGI_SCHEME", b"HTTP_HOST", b"HTTP_COOKIE", b"HTTP_PROXY",
    b"HTTP_CONTENT_LENGTH", b"HTTP_TRANSFER_ENCODING", b"HTTP_X_" + b"Y" * 80, b"A",
)  # fmt: skip
VALUES: Final = (
    b"", b"GET", b"get", b"/", b"/x?a=1", b"?", b"/caf\xe9", b"0", b"12", b"9" * 18, b"9" * 19, b"99999", b"on",
    b"http", b"https", b"HTTP/1.1", b"unix:", b"192.0.2.1", b"\0", b"x" * 300, b"\xff" * 256,
)  # fmt: skip
HEADER_NAMES: Final = (
    b"Content-Length", b"content-type", b"X-Accel-Buffering", b"X-Accel-Expires", b"Connection", b"X-A", b"",
    "X-\u20ac", None,
)  # fmt: skip
HEADER_VALUES: Final = (
    b"", b"5", b" 5", b"9" * 19, b"text/plain", b"text/event-stream", b"a\r\nb", b"\x7f", b"\t", "text", 5,
    bytearray(b"x"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packets", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--module", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.randrange(1 << 32)
    if asked.module is None:
        run_under_sanitizers(asked.packets, seed)
    else:
        feed(cast("Accelerator", load(asked.module)), asked.packets, seed)


def run_under_sanitizers(packets: int, seed: int) -> None:
    """Compile it with both, and start this file again, and the other one that runs under them."""
    from uwsgibridge import fast

    with tempfile.TemporaryDirectory() as directory:
        module = Path(directory, "_fast" + str(sysconfig.get_config_var("EXT_SUFFIX")))
        includes = f"-I{sysconfig.get_path('include')}"
        source = str(ROOT / "uwsgibridge/fast/_fast.c")
        digest = f'-DSOURCE_DIGEST="{fast._digest()}"'
        command = ["cc", "-shared", "-fPIC", *SANITIZE, includes, digest, source, "-o", str(module)]
        subprocess.run(command, check=True)
        runtimes = " ".join(
            subprocess.check_output(["cc", f"-print-file-name={name}"], text=True).strip()
            for name in ("libasan.so", "libubsan.so")
        )
        environ = {
            **os.environ,
            "LD_PRELOAD": runtimes,
            # Python's own allocator takes memory in large pieces, of which no sanitizer knows the parts.
            "PYTHONMALLOC": "malloc",
            # The interpreter itself leaves much behind at its end.
            "ASAN_OPTIONS": f"detect_leaks=0,abort_on_error=1,quarantine_size_mb={QUARANTINE_MB}",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        requests = str(max(100, packets // PACKETS_FOR_A_REQUEST))
        for name, arguments, pure in (
            # Python alone is what packets are compared with.
            ("fast_under_sanitizers", ["--packets", str(packets)], "1"),
            ("wsgi_under_sanitizers", ["--requests", requests], ""),
        ):
            arguments += ["--seed", str(seed), "--module", str(module)]
            subprocess.run(
                [sys.executable, "-m", f"tests.fuzz.{name}", *arguments],
                cwd=ROOT,
                env={**environ, fast.PURE_VARIABLE: pure},
                check=True,
            )


def load(path: Path) -> ModuleType:
    loader = importlib.machinery.ExtensionFileLoader("_fast", str(path))
    spec = importlib.util.spec_from_loader("_fast", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def feed(accelerator: Accelerator, packets: int, seed: int) -> None:
    """Generate packets and headers, and look that nothing stays."""
    print(f"{packets} packets, seed {seed}", flush=True)  # noqa: T201
    chance = random.Random(seed)
    feeder = Feeder(accelerator, chance)
    for number in range(min(packets, WARM_UP_PACKETS)):
        feeder.feed(is_compared=number % COMPARED == 0)
    before = resident_bytes()
    for number in range(packets - WARM_UP_PACKETS):
        feeder.feed(is_compared=number % COMPARED == 0)
    grown = resident_bytes() - before
    print(f"{feeder.mine} packets were its own; memory grew by {grown >> 10} KiB")  # noqa: T201
    assert feeder.mine > packets // 20, "nearly all were refused: that proves little"
    assert grown < MOST_GROWTH_BYTES, "memory grows"


def resident_bytes() -> int:
    fields = Path("/proc/self/statm").read_text("ascii").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


class Host:
    """Keeps what it gets."""

    def __init__(self, limit: int) -> None:
        from uwsgibridge.hosts.admission import Admission

        self.admission: Any = Admission(limit, 0, lambda: None)
        self.submitted: list[Any] = []
        self.submit = self.submitted.append


class Feeder:
    """Makes input that is nearly right, and gives it to the accelerator."""

    def __init__(self, accelerator: Accelerator, chance: random.Random) -> None:
        from uwsgibridge.protocol import request, response_headers

        self._accelerator = accelerator
        self._chance = chance
        self._names = request.header_names
        self._versions = request.HTTP_VERSIONS
        self._asgi = request.ASGI_VERSIONS
        self._request_type = request.Request
        # `Connection` itself is derived from the class of Python here.
        self._connection_type = type("Connection", (accelerator.ConnectionFields,), {})
        self._base = {"wsgi.version": (1, 0), "wsgi.run_once": False}
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind("")
        self._listening.listen()
        self._listening.setblocking(False)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lasts as long as the process
        self._file.write(bytes(20_000))
        self._file.flush()
        self._kinds = response_headers.known_kinds
        self._stream_kinds = response_headers.known_stream_kinds
        for name in HEADER_NAMES[:6]:
            if isinstance(name, bytes):
                response_headers.encode_head(200, b"200 OK", [(name, b"5")])
        self._asgi_feeder = AsgiFeeder(accelerator, chance, self._connection_type, self._listening)
        self.mine = 0

    def close(self) -> None:
        """Close what it feeds by."""
        self._listening.close()
        self._file.close()

    def feed(self, *, is_compared: bool) -> None:
        """Do everything once."""
        data = self._packet()
        limits = (self._chance.choice((65_535, 100)), self._chance.choice((1000, 3)))
        # A memory of exactly this size: one byte further is somebody else's.
        packet = self._accelerator.parse_packet(memoryview(bytearray(data)), *limits, tuple)
        if is_compared:
            compare(packet, data, *limits)
        if packet is not None:
            self.mine += 1
            variables = packet[1]
            self._accelerator.settle_vars(variables, self._chance.choice((0, 10)))
            self._accelerator.http_scope(variables, self._names, self._versions, self._asgi)
            self._accelerator.environ(variables, self._base, "software")
        if not self._chance.randrange(RECEIVED):
            self._receive(data, *limits)
            self._use_connection(data)
            self._begin_file()
            if packet is not None:
                self._write_line(packet[1])
                self._asgi_feeder.feed(packet[1])
        self._feed_headers()

    def _write_line(self, variables: dict[str, str]) -> None:
        """Write a line of the access log, through a pipe or by a function."""
        chance = self._chance
        written: list[bytes] = []
        told: list[tuple[Any, ...]] = []
        reader, writer = os.pipe()
        buffer = SimpleNamespace(
            _pushing=chance.choice((False, False, True)),
            _is_cut=False,
            _pending=chance.choice(((), (), (b"kept",), 5)),
            outlet=SimpleNamespace(at_once=chance.choice((writer, -1)), is_nonblocking=False),
        )
        line = self._accelerator.SentLine(
            ("A", "HTTP_HOST"),
            lambda _request: chance.choice(("made", 'a "quoted" id')),
            chance.choice((SimpleNamespace(are_kept=False), SimpleNamespace(are_kept=True))),
            lambda: "now",
            chance.choice((buffer, None)),
            written.append,
            lambda *given: told.append(given),
        )
        with suppress(TypeError):  # 5 has no length
            seconds = chance.choice((0.0, 2.5e-6, 1e9, -1.0))
            line(
                SimpleNamespace(vars=variables), 200, chance.choice((0, -1, 1 << 62)), 1.0, seconds
            )
            os.write(writer, b".")
            assert len(written) + len(told) + (os.read(reader, 1 << 16) != b".") == 1
        os.close(reader)
        os.close(writer)

    def _begin_file(self) -> None:
        chance = self._chance
        offset, whole, first = chance.randrange(-2, 21_000), *chance.sample((0, 1, 4096, 16_384), 2)
        begun = self._accelerator.begin_file(self._file.fileno(), offset, whole, first)
        if offset < 0:
            assert begun is None
        else:
            available = max(0, 20_000 - offset)
            wanted = available if available <= whole else first
            # None where the first piece is larger than the file.
            assert begun == ((available, bytes(wanted)) if wanted <= available else None)
        assert self._accelerator.begin_file(self._listening.fileno(), 0, 1, 1) is None

    def _use_connection(self, data: bytes) -> None:
        """Do everything that a connection can do."""
        chance = self._chance
        sent = data + b"more"
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(self._listening.getsockname())
            peer.sendall(sent)
            connection = self._accelerator.accept(self._listening.fileno(), socket.AF_UNIX)
            assert connection.recv(len(sent) + 3, socket.MSG_PEEK) == sent
            buffer = bytearray(chance.randrange(1, 9))
            size = chance.randrange(len(buffer) + 1)
            taken = connection.recv_into(memoryview(buffer), size, 0)
            assert buffer[:taken] == sent[:taken]
            rest = sent[taken:]
            size = len(rest) + chance.randrange(-3, 4)
            if size > 0 and rest:
                # The last byte is seen, and stays; where there are fewer bytes, nothing stays.
                assert connection.recv_keeping_last(size) == rest[:size]
                rest = rest[size - 1 :]
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, bytes(4))
            answer = bytes(chance.choice((0, 1, 70_000)))
            assert connection.send(answer, 0) <= len(answer)
            with suppress(BlockingIOError):
                assert connection.send_pair(b"more", answer) <= 4 + len(answer)
            if rest:
                assert connection.recv(len(rest), 0) == rest
            for use in (lambda: connection.recv(1, 0), lambda: connection.recv_keeping_last(1)):
                try:
                    use()
                except BlockingIOError:
                    continue
                raise AssertionError("nothing was there")
            connection.shutdown(socket.SHUT_RDWR)
            assert connection.recv_keeping_last(2) == b""
            connection.close()
            assert connection.fileno() < 0

    def _receive(self, data: bytes, max_vars_bytes: int, max_vars: int) -> None:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(self._listening.getsockname())
            peer.sendall((data or b"x") + b"body and more"[: self._chance.randrange(13)])
            connection = self._accelerator.accept(self._listening.fileno(), socket.AF_UNIX)
            flags = self._chance.choice((0, socket.MSG_PEEK))
            # Small pieces, since small pieces arrive at times.
            scratch = memoryview(bytearray(self._chance.choice((4, 100, 70_000))))
            received = self._accelerator.receive_request(
                connection, scratch, flags, max_vars_bytes, max_vars, 0, self._request_type
            )
            assert received is not None
            count = received[1] if isinstance(received, tuple) else received
            assert self._accelerator.take_and_close(connection, count if flags else 0)
        self._take_in(data, max_vars_bytes, max_vars)

    def _take_in(self, data: bytes, max_vars_bytes: int, max_vars: int) -> None:
        """Accept a connection with these bytes, and one with none, in one batch."""
        from uwsgibridge.link.flights import FlightRecorder
        from uwsgibridge.telemetry.counters import Counters

        taken: list[Any] = []
        host = Host(self._chance.randrange(2))
        intake = self._accelerator.Intake(
            connection_type=self._connection_type,
            request_type=self._request_type,
            family=int(socket.AF_UNIX),
            keeps_input=bool(self._chance.randrange(2)),
            max_vars_bytes=max_vars_bytes,
            max_vars=max_vars,
            max_body_bytes=self._chance.choice((0, 10)),
            max_requests=self._chance.choice((0, 0, 1)),
            flights=FlightRecorder(),
            arrived=Counters().own.cell,
            host=self._chance.choice((host, None)),
            select=lambda _request: self._chance.choice((host, None)),
            take=lambda connection, _received: taken.append(connection),
            listening=self._listening.fileno(),
            looks=self._chance.random() < 0.5,
            admits=self._chance.choice((None, lambda _descriptor: True)),
            file_prefixes=self._chance.choice(((), ("",), ("/static", "/a\xe9"))),
        )
        with socket.socket(socket.AF_UNIX) as peer, socket.socket(socket.AF_UNIX) as silent:
            for it in (peer, silent):
                it.connect(self._listening.getsockname())
            peer.sendall((data or b"x") + b"body and more"[: self._chance.randrange(13)])
            assert intake.accept(self._listening.fileno(), 3, self._chance.randrange(2)) == 2
            for connection in [*taken, *host.submitted]:
                connection._socket.close()
            assert len(taken) + len(host.submitted) == 2

    def _packet(self) -> bytes:
        chance = self._chance
        payload = bytearray()
        for _ in range(chance.randrange(12)):
            for text in (chance.choice(NAMES), chance.choice(VALUES)):
                payload += len(text).to_bytes(2, "little") + text
        data = bytearray((chance.choice((0, 0, 0, 30, 100, 1)), 0, 0, 0)) + payload
        data[1:3] = len(payload).to_bytes(2, "little")
        for _ in range(chance.choice((0, 0, 1, 2, 4))):
            place = chance.randrange(len(data))
            if chance.randrange(3):
                data[place] = chance.randrange(256)
            else:
                del data[place : place + chance.randrange(6)]
            if not data:
                break
        return bytes(data)

    def _feed_headers(self) -> None:
        chance = self._chance
        headers: list[Any] = [
            (chance.choice(HEADER_NAMES), chance.choice(HEADER_VALUES))
            for _ in range(chance.choice((0, 1, 2, 5, 70)))
        ]
        if not chance.randrange(10):
            headers.append(chance.choice([(), (b"X-A",), [b"X-A", b"1"], None, b"ab"]))
        line = chance.choice((b"200 OK", b"204 No Content", b"2", b"", b"200 \n"))
        self._accelerator.encode_head(line, headers, self._kinds, self._stream_kinds)
        texts = [
            tuple(it.decode("latin-1") if isinstance(it, bytes) else it for it in pair)
            if isinstance(pair, tuple)
            else pair
            for pair in headers
        ]
        self._accelerator.encode_pairs(texts)


def compare(
    packet: tuple[Any, ...] | None, data: bytes, max_vars_bytes: int, max_vars: int
) -> None:
    """Hold what is its own against Python's result."""
    from uwsgibridge import fast
    from uwsgibridge.protocol import packet as packet_module

    if packet is not None:
        assert fast.accelerator is None, "set UWSGIBRIDGE_PURE"
        limits = packet_module.PacketLimits(max_vars_bytes, max_vars)
        assert packet_module.parse_packet(memoryview(data), limits) == packet


if __name__ == "__main__":
    main()
