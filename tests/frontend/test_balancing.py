"""How requests are spread: a private Nginx before several stand-ins, each of which says its name."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.frontend.conftest import Serve
from tests.frontend.stand_in import OK, PATIENCE_SECONDS, StandIn, get
from uwsgibridge.frontend.binary import choose_nginx
from uwsgibridge.frontend.config import render_site
from uwsgibridge.frontend.options import Balancing, Canary, Site


@pytest.fixture
def named(stand_ins: Callable[[], StandIn]) -> Callable[[str], StandIn]:
    def start(name: str) -> StandIn:
        stand_in = stand_ins()
        stand_in.answer = OK + b"\r\n" + name.encode()
        return stand_in

    return start


@pytest.fixture
def newest() -> Path:
    """The Nginx of the package, which knows what the distribution's does not."""
    nginx = choose_nginx("packaged")
    assert nginx.version is not None
    assert nginx.version >= (1, 31, 0)
    return nginx.path


def test_a_client_stays_at_its_bridge_and_a_drained_one_gets_no_new_client(
    named: Callable[[str], StandIn], serve: Serve, newest: Path
) -> None:
    one, two = named("one"), named("two")
    upstreams = (one.address, two.address)
    nginx = serve(binary=newest, upstreams=upstreams, balancing=Balancing(cookie="route"))
    clients = [requests.Session() for _ in range(4)]
    first = [client.get(nginx.url, timeout=PATIENCE_SECONDS) for client in clients]
    assert {answer.text for answer in first} == {"one", "two"}
    _, *attributes = first[0].headers["Set-Cookie"].split("; ")
    assert sorted(attributes) == ["httponly", "path=/", "samesite=lax"]
    again = [client.get(nginx.url, timeout=PATIENCE_SECONDS) for client in clients]
    assert [answer.text for answer in again] == [answer.text for answer in first]

    # The same cookies, at an Nginx that drains one of the two.
    nginx = serve(
        binary=newest,
        upstreams=upstreams,
        balancing=Balancing(method="least-time", cookie="route", drain=(one.address,)),
    )
    for client, answer in zip(clients, first, strict=True):
        cookies = client.cookies.get_dict()
        assert get(nginx, cookies=cookies).text == answer.text
    assert {get(nginx).text for _ in range(4)} == {"two"}


def test_a_part_of_the_clients_gets_the_canary_and_keeps_it(
    named: Callable[[str], StandIn], serve: Serve
) -> None:
    old, new = named("old"), named("new")
    nginx = serve(
        upstreams=(old.address,),
        canary=Canary(upstreams=(new.address,), percent=25),
        balancing=Balancing(method="least-conn"),
    )
    agents = [f"browser {number}" for number in range(80)]

    def ask() -> list[str]:
        return [get(nginx, headers={"User-Agent": agent}).text for agent in agents]

    answers = ask()
    # The hash spreads these 80 as it does: the same each time, since nothing but the agent differs.
    assert 10 <= Counter(answers)["new"] <= 30
    assert ask() == answers


def test_where_the_canary_does_not_answer_the_others_do(
    named: Callable[[str], StandIn], serve: Serve
) -> None:
    old, new = named("old"), named("new")
    new.answer = b""
    nginx = serve(upstreams=(old.address,), canary=Canary(upstreams=(new.address,), percent=99.99))
    answers = [get(nginx, headers={"User-Agent": str(number)}) for number in range(5)]
    assert [(answer.status_code, answer.text) for answer in answers] == [(200, "old")] * 5
    assert new.received


class NameServer:
    """Answers each question for an IPv4 address with the same two."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"

    def run(self) -> None:
        while True:
            question, client = self.socket.recvfrom(512)
            if not question:
                return
            # RFC 1035, 4.1: the head with QR and RA, the question as it came, and a pointer to its name in each answer.
            head = question[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, len(self.addresses), 0, 0)
            answers = (
                b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(one)
                for one in self.addresses
            )
            self.socket.sendto(head + question[12:] + b"".join(answers), client)

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"", self.socket.getsockname())


def test_all_addresses_of_a_name_are_asked(
    named: Callable[[str], StandIn], serve: Serve, newest: Path
) -> None:
    one = named("one")
    port = one.listener.getsockname()[1]
    two = StandIn(socket.create_server(("127.0.0.2", port)), answer=OK + b"\r\ntwo")
    names = NameServer("127.0.0.1", "127.0.0.2")
    threads = [threading.Thread(target=it.run) for it in (two, names)]
    for thread in threads:
        thread.start()
    try:
        nginx = serve(
            binary=newest,
            upstreams=(f"app.internal:{port}",),
            resolver=names.address,
            balancing=Balancing(resolve=True),
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        # Until the first answer of DNS, the upstream is empty.
        while get(nginx).status_code == 502:
            assert time.monotonic() < deadline
        assert {get(nginx).text for _ in range(4)} == {"one", "two"}
    finally:
        two.listener.shutdown(socket.SHUT_RDWR)
        names.stop()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        two.listener.close()
        names.socket.close()


def test_addresses_are_not_looked_up() -> None:
    """``resolve`` is for names: for addresses and sockets, it would say nothing."""
    text = render_site(
        Site(
            upstreams=("app.internal:1", "127.0.0.1:2", "[::1]:3", "unix:/run/app.sock", "localhost:4"),
            resolver="127.0.0.11",
            balancing=Balancing(resolve=True),
        )
    )  # fmt: skip
    assert [line.strip() for line in text.splitlines() if line.strip().startswith("server ")] == [
        "server app.internal:1 resolve;",
        "server 127.0.0.1:2;",
        "server [::1]:3;",
        "server unix:/run/app.sock;",
        "server localhost:4;",
        "server {",
    ]
