"""The status for people: right figures, dashes for what is not known, and 80 columns."""

from __future__ import annotations

import copy
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from tests.control_server import WORKER, FakeSupervisor
from uwsgibridge.cli.status_table import format_rates, format_status
from uwsgibridge.hosts import turn
from uwsgibridge.protocol.errors import ProtocolError
from uwsgibridge.telemetry import reporting
from uwsgibridge.worker import peer_check, tls_relays

STATUS: dict[str, Any] = FakeSupervisor().status_answer


def with_worker(**values: object) -> dict[str, Any]:
    return {**STATUS, "workers": [{**WORKER, **values}]}


def cells(text: str) -> dict[str, str]:
    """Give the first worker's cells by their titles; both are separated by the titles' ends."""
    titles, first = text.splitlines()[-2:]
    found = {}
    begin = 0
    for title in ("PID", "STATE   ", "GEN", "AGE", "REQ", "IN FLIGHT", "QUEUE", "MEMORY", "CPU"):
        end = titles.index(title, begin) + len(title)
        if title == "REQ":
            end += len("UESTS") if "REQUESTS" in titles else len("/S")
        if title == "CPU":
            end = len(titles)
        found[title.strip()] = first[begin:end].strip()
        begin = end
    return found


def test_the_table_shows_supervisor_and_workers() -> None:
    assert format_status(STATUS) == (
        "mysite.wsgi: running, up 12.3 s, pid 1, generation 3, uwsgibridge 0.1.0\n"
        "workers wanted: 2, requests: 12345, recycled: 2, crashed: 0, accelerator: in use\n"
        "application errors: 4, clients gone: 31, refused: 3\n"
        "refused for: body_timeout 2, not_mounted 1\n"
        "unix:/run/app.sock: 0 waiting\n"
        "\n"
        "    PID STATE     GEN     AGE   REQUESTS IN FLIGHT     QUEUE    MEMORY     CPU\n"
        "     12 ready       3  12.0 s        100       2/8    1.0 ms  11.8 MiB   1.2 s\n"
        "     13 starting    -       -          -       -/-         -         -       -"
    )


SIDECARS: list[dict[str, Any]] = [
    {
        "name": "celery",
        "command": "celery -A shop worker --concurrency 2 --loglevel info --queues=a,b,c",
        "pid": 40,
        "state": "running",
        "since_seconds_ago": 12_000.0,
        "restarts": 0,
        "last_exit": None,
    },
    {
        "name": "celery-2",
        "command": "/srv/venv/bin/celery -A shop\n beat",
        "pid": None,
        "state": "waiting",
        "since_seconds_ago": 0.25,
        "restarts": 3,
        "last_exit": {"exit_status": 1, "seconds_ago": 0.25},
    },
    {
        **dict.fromkeys(("pid", "state", "command")),
        "name": "rq",
        "last_exit": {"signal": "SIGKILL"},
    },
]


def test_sidecars_have_a_table_of_their_own() -> None:
    status = {**STATUS, "sidecars": SIDECARS}
    without = format_status(STATUS)
    table = format_status(status).removeprefix(without)
    assert table == (
        "\n\n"
        "    PID STATE      SINCE RESTARTS LAST EXIT NAME     COMMAND\n"
        "     40 running    3.3 h        0         - celery   celery -A shop worker --...\n"
        "      - waiting    0.2 s        3         1 celery-2 celery -A shop beat\n"
        "      - -              -        -      KILL rq       -"
    )
    assert format_rates(status, None).endswith(table)
    assert format_status({**STATUS, "sidecars": []}) == without


def test_a_drain_delay_is_told() -> None:
    status = {**STATUS, "state": "draining", "drain_delay_seconds_left": 12.0}
    assert ": draining (stops in 12.0 s), up " in format_status(status)
    status["drain_delay_seconds_left"] = None
    assert ": draining, up " in format_status(status)


def test_the_largest_values_fit() -> None:
    worker = with_worker(
        pid=4_194_304,
        state="stopping",
        generation=9_999,
        age_seconds=999 * 86_400.0,
        requests=9_999_999_999,
        in_flight=4096,
        capacity=4096,
        queue_seconds=0.99999,
        rss_bytes=999 * 1024**3,
        cpu_seconds=99.99,
    )
    earlier = {**worker, "started_seconds_ago": 11.3}
    for text in (format_status(worker), format_rates(worker, earlier)):
        titles, line = text.splitlines()[-2:]
        assert len(titles) <= 80
        assert len(line) <= len(titles)


def test_many_reasons_fit_as_well() -> None:
    refused = {f"quite_a_long_reason_{number}": 10**9 + number for number in range(9)}
    lines = format_status({**STATUS, "refused": refused}).splitlines()
    assert max(map(len, lines)) <= 80
    begin = lines.index("application errors: 4, clients gone: 31, refused: 9000000036")
    told = " ".join(it.strip() for it in lines[begin + 1 : begin + 6])
    assert told.startswith("refused for: quite_a_long_reason_8 1000000008, quite_a_long_reason_7 ")
    assert told.count("quite") == 9


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (99.9, "99.9 s"),
        (100, "2 min"),
        (5_999, "100 min"),
        (6_000, "1.7 h"),
        (360_000, "4 d"),
    ],
)
def test_ages_are_written_with_their_unit(seconds: float, text: str) -> None:
    assert cells(format_status(with_worker(age_seconds=seconds)))["AGE"] == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0.0 ms"), (0.0123, "12.3 ms"), (1.0, "1.0 s")]
)
def test_queue_times_are_written_with_their_unit(seconds: float, text: str) -> None:
    assert cells(format_status(with_worker(queue_seconds=seconds)))["QUEUE"] == text


def test_memory_is_written_with_its_unit() -> None:
    assert cells(format_status(with_worker(rss_bytes=999 * 1024**2)))["MEMORY"] == "999.0 MiB"
    assert cells(format_status(with_worker(rss_bytes=1536 * 1024**2)))["MEMORY"] == "1.5 GiB"


def test_an_older_supervisor_that_says_less() -> None:
    text = format_status({"ok": True, "workers": [{}]})
    assert "application errors: -, clients gone: -, refused: -\n" in text
    assert "refused for" not in text
    assert set(cells(text).values()) == {"-", "-/-"}
    assert text.startswith("-: -, up -, pid -")


def later(**worker: object) -> dict[str, Any]:
    """Give the status two seconds later."""
    status = copy.deepcopy(with_worker(**worker))
    status["started_seconds_ago"] += 2.0
    return status


def test_rates_are_by_the_supervisor_s_clock() -> None:
    now = {**later(requests=400, cpu_seconds=1.7), "requests": 12_645}
    text = format_rates(now, STATUS)
    assert "requests a second: 150.0" in text
    assert cells(text)["REQ"] == "150.0"
    assert cells(text)["CPU"] == "25.0"
    assert "CPU %" in text


@pytest.mark.parametrize(
    "earlier",
    [
        None,
        STATUS | {"pid": 2},  # another supervisor
        STATUS
        | {"started_seconds_ago": 3_600.0},  # started anew, with the pid that containers give
        STATUS | {"started_seconds_ago": 14.3},  # the same answer
    ],
)
def test_without_an_earlier_status_there_are_no_rates(earlier: dict[str, Any] | None) -> None:
    text = format_rates(later(requests=400), earlier)
    assert "requests a second: -" in text
    assert (cells(text)["REQ"], cells(text)["CPU"]) == ("-", "-")


def test_a_new_worker_has_no_rates_nor_has_one_with_a_used_pid() -> None:
    assert cells(format_rates(later(pid=99), STATUS))["REQ"] == "-"
    assert cells(format_rates(later(requests=3), STATUS))["REQ"] == "-"


def test_each_reason_to_refuse_is_documented() -> None:
    for module in ("protocol.websocket", "hosts.wsgi.websocket"):  # where the rest of them are
        importlib.import_module(f"uwsgibridge.{module}")
    counted = set(re.findall(r'count_refusal\("(\w+)"\)', inspect.getsource(reporting)))
    counted |= set(re.findall(r'_refuse\(connection, "(\w+)"', inspect.getsource(turn)))
    counted |= set(re.findall(r'"(not_tls|tls_\w+)"', inspect.getsource(tls_relays)))
    counted |= set(
        re.findall(r'^_REASON: Final = "(\w+)"', inspect.getsource(peer_check), re.MULTILINE)
    )
    assert {"not_mounted", "queue_timeout", "tls_handshake", "peer_not_allowed"} <= counted
    kinds = [ProtocolError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    counted |= {kind.reason for kind in kinds[1:] if kind.__module__.startswith("uwsgibridge.")}
    page = (Path(__file__).parents[2] / "docs/ctl.md").read_text("utf-8")
    table = page.partition("| `refused for` |")[2].partition("\n\n")[0]
    documented = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert documented == sorted(counted)
