"""The names of sidecars, and who takes over which process at an upgrade."""

from __future__ import annotations

from typing import Any

import pytest

from uwsgibridge.config.commands import Command, parse_command
from uwsgibridge.supervisor.sidecars import descriptors_of, match_heritage, name_commands


def named(*texts: str) -> dict[str, Command]:
    return name_commands(parse_command("--sidecar", it) for it in texts)


def process(name: str, command: str, pid: int) -> dict[str, Any]:
    program = {"pid": pid, "lifeline": pid + 1, "streams": {"stdout": pid + 2, "stderr": pid + 3}}
    return {"name": name, "command": command, "program": program}


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ((), []),
        (("celery worker", "celery beat", "rq worker"), ["celery", "celery-2", "rq"]),
        (("a x", "a y", "a z"), ["a", "a-2", "a-3"]),
        (("a-2", "a x", "a y"), ["a-2", "a", "a-3"]),
        (("a x", "a y", "a-2"), ["a", "a-2", "a-2-2"]),
    ],
)
def test_each_has_a_name_of_its_own(texts: tuple[str, ...], names: list[str]) -> None:
    assert list(named(*texts)) == names


def pids(commands: dict[str, Command], *heritage: dict[str, Any]) -> dict[str, int]:
    found = match_heritage(commands, heritage)
    return {name: it["program"]["pid"] for name, it in found.items()}


WORKER = process("celery", "celery worker", 10)
BEAT = process("celery-2", "celery beat", 20)


def test_the_same_command_takes_its_process_over() -> None:
    assert pids(named("celery worker", "celery beat"), WORKER, BEAT) == {
        "celery": 10, "celery-2": 20,
    }  # fmt: skip


def test_the_order_of_the_options_does_not_matter() -> None:
    assert pids(named("celery beat", "celery worker"), WORKER, BEAT) == {
        "celery": 20, "celery-2": 10,
    }  # fmt: skip


def test_a_changed_command_takes_over_what_had_its_name() -> None:
    assert pids(named("celery worker", "celery beat -l info"), WORKER, BEAT) == {
        "celery": 10, "celery-2": 20,
    }  # fmt: skip


def test_what_has_no_successor_is_nobodys() -> None:
    assert pids(named("celery beat"), WORKER, BEAT) == {"celery": 20}
    assert pids(named("rq worker"), WORKER, BEAT) == {}


def test_two_of_the_same_command_take_over_one_each() -> None:
    twice = [process("rq", "rq worker", 10), process("rq-2", "rq worker", 20)]
    assert pids(named("rq worker", "rq worker"), *twice) == {"rq": 10, "rq-2": 20}
    assert pids(named("rq worker"), *twice) == {"rq": 10}


def test_all_descriptors_are_handed_on() -> None:
    assert descriptors_of([WORKER, BEAT]) == [11, 12, 13, 21, 22, 23]
