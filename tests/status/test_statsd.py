"""What a real receiver of datagrams gets, and what happens without one."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.log_events import PATIENCE_SECONDS, LogEvents
from tests.status.conftest import Service, settings
from uwsgibridge.status import statsd
from uwsgibridge.status.statsd import StatsdSender
from uwsgibridge.telemetry.logs import Logger


@contextlib.contextmanager
def receiver(kind: str, place: Path) -> Iterator[tuple[socket.socket, str]]:
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as opened:
        opened.settimeout(PATIENCE_SECONDS)
        if kind == "unix":
            opened.bind(f"{place}/statsd")
            yield opened, f"unix:{place}/statsd"
        else:
            opened.bind(("127.0.0.1", 0))
            yield opened, f"127.0.0.1:{opened.getsockname()[1]}"


@contextlib.contextmanager
def sender(counted: Service, logger: Logger, host: str, **values: Any) -> Iterator[StatsdSender]:
    made = StatsdSender(counted.sources, settings(statsd_host=host, **values), logger)
    with contextlib.closing(made):
        yield made


@pytest.mark.parametrize("kind", ["udp", "unix"])
def test_changes_arrive_at_each_interval_and_at_the_end(
    counted: Service, logger: Logger, log: LogEvents, short: Path, kind: str
) -> None:
    counted.requests = 100  # of a program before: they were sent by that
    with (
        receiver(kind, short) as (opened, host),
        sender(counted, logger, host, statsd_prefix="shop", statsd_tags="env:live") as sending,
    ):

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sending.run)
                await trio.sleep(1)
                counted.requests = 103
                await trio.sleep(10)
                counted.requests = 108
                nursery.cancel_scope.cancel()

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        assert [opened.recv(9999) for _ in range(2)] == [
            b"shop.test.requests:3|c|#env:live",
            b"shop.test.requests:5|c|#env:live",
        ]
    assert log.text() == ""


def test_without_a_receiver_there_is_one_event_and_no_change_is_lost(
    counted: Service, logger: Logger, log: LogEvents, short: Path
) -> None:
    async def main() -> None:
        with sender(counted, logger, f"unix:{short}/statsd") as sending:
            counted.requests = 1
            await sending.send()
            counted.requests = 2
            await sending.send()
            with receiver("unix", short) as (opened, _):
                await sending.send()
                assert opened.recv(9999) == b"test.requests:2|c"

    trio.run(main)
    [event] = log.find(event="statsd can't be reached")
    assert event["reason"] == "No such file or directory"
    assert len(log.find(event="statsd is reached again")) == 1


def test_a_port_that_nobody_has_is_one_event(
    counted: Service, logger: Logger, log: LogEvents, short: Path
) -> None:
    with receiver("udp", short) as (_, host):
        pass

    async def main() -> None:
        with sender(counted, logger, host) as sending:
            for counted.requests in range(1, 5):
                await sending.send()

    trio.run(main)
    [event] = log.find(event="statsd can't be reached")
    assert event["reason"] == "Connection refused"
    assert not log.find(event="statsd is reached again")


def test_a_receiver_that_does_not_keep_up_is_not_waited_for(
    counted: Service,
    logger: Logger,
    log: LogEvents,
    short: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statsd, "_SEND_SECONDS", 0.05)

    async def main() -> None:
        with receiver("unix", short) as (_, host), sender(counted, logger, host) as sending:
            with trio.fail_after(PATIENCE_SECONDS):
                while not log.find(event="statsd can't be reached"):
                    counted.requests += 1
                    await sending.send()

    trio.run(main)
    [event] = log.find(event="statsd can't be reached")
    assert event["reason"] == "it took longer than 0.05 s"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "Name or service not known",
        ),
        (None, "the name was not found in 5 s"),
    ],
)
def test_a_name_that_is_not_found(
    counted: Service,
    logger: Logger,
    log: LogEvents,
    monkeypatch: pytest.MonkeyPatch,
    found: Exception | None,
    reason: str,
) -> None:
    async def look_up(*_arguments: object, **_further: object) -> object:
        if found is not None:
            raise found
        await trio.sleep_forever()

    monkeypatch.setattr(trio.socket, "getaddrinfo", look_up)
    with sender(counted, logger, "nowhere.example:8125") as sending:
        trio.run(sending.send, clock=trio.testing.MockClock(autojump_threshold=0))
    assert log.wait(event="statsd can't be reached")["reason"] == reason


def test_what_is_no_name_is_an_event(counted: Service, logger: Logger, log: LogEvents) -> None:
    async def main() -> None:
        with sender(counted, logger, f"{'x' * 64}.example:8125") as sending:
            await sending.send()

    trio.run(main)
    assert "label" in log.wait(event="statsd can't be reached")["reason"]


def test_a_name_is_looked_up_again_after_a_while(
    counted: Service, logger: Logger, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []
    with receiver("udp", short) as (_, host):
        port = int(host.rpartition(":")[2])

        async def look_up(name: str, *_arguments: object, **_further: object) -> object:
            await trio.lowlevel.checkpoint()
            looked_up.append(name)
            return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("127.0.0.1", port))]

        monkeypatch.setattr(trio.socket, "getaddrinfo", look_up)

        async def main() -> None:
            with sender(counted, logger, f"statsd.example:{port}") as sending:
                for _ in range(8):
                    counted.requests += 1
                    await sending.send()
                    await trio.sleep(10)

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert looked_up == ["statsd.example"] * 2


def test_labels_are_tags_where_the_form_is_dogstatsds(
    counted: Service, logger: Logger, short: Path
) -> None:
    with receiver("unix", short) as (opened, host):
        for form, wanted in (
            ("dogstatsd", b"#stats_uri:"),
            ("plain", b"uwsgi.workers.uwsgibridge:1|g"),
        ):
            values = {"statsd_format": form, "metrics_names": "uwsgi_exporter"}

            async def main(values: dict[str, str] = values) -> None:
                with sender(counted, logger, host, **values) as sending:
                    await sending.send()

            trio.run(main)
            assert wanted in opened.recv(9999)
