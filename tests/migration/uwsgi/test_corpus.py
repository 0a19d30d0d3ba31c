"""Configurations of uWSGI run as they are, and answer as under the real uWSGI; the others are refused in one message."""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.forked_command import run_command
from tests.migration.uwsgi.corpus.cases import HERE, Case, all_cases
from tests.migration.uwsgi.corpus.serving import Answer, Site, ask_here, ask_uwsgi
from tests.real_uwsgi import find_real_uwsgi
from uwsgibridge.cli.run_uwsgi import read_plan
from uwsgibridge.migration import report
from uwsgibridge.migration.errors import ConfigurationError

CASES: Final = all_cases()
RUN: Final = [it for it in CASES if it.is_run]
REFUSED: Final = [it for it in CASES if it.refusals]
# What tests/migration/uwsgi/corpus/record.py has written.
RECORDED: Final[Mapping[str, Any]] = json.loads((HERE / "recorded.json").read_text())
LEAST_SHARE: Final = 0.95


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory whose name is short: the path of a unix socket has 107 bytes at the most."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="session")
def real_uwsgi() -> str | None:
    return find_real_uwsgi()


def comparable(answer: Answer, case: Case) -> Answer:
    """Take out of an answer what is known not to be the same."""
    if answer is None or not case.differs:
        return answer
    status, headers, body = answer
    told = {name: value for name, value in json.loads(body).items() if name not in case.differs}
    return [status, headers, told]


def assert_same(here: dict[str, Any], real: Mapping[str, Any], case: Case) -> None:
    assert here["sockets"] == real["sockets"]
    for path, ours, its in zip(case.paths, here["answers"], real["answers"], strict=True):
        assert (path, comparable(ours, case)) == (path, comparable(its, case))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Start every second configuration, and the others in the other rotation: each start costs a third of a second."""
    if metafunc.function is test_it_answers_as_under_uwsgi:
        rotation = int(os.environ.get("UWSGIBRIDGE_TEST_ROTATION", "0"))
        is_all = metafunc.config.getoption("--all-combinations")
        metafunc.parametrize(
            "case", RUN if is_all else RUN[rotation % 2 :: 2], ids=lambda it: it.name
        )


def test_it_answers_as_under_uwsgi(case: Case, directory: Path, real_uwsgi: str | None) -> None:
    site = Site(case, directory / "a")
    here = ask_here(site)
    assert "answers" in here, here
    assert here["exit status"] == 0, site.log_text()
    for name in case.awaited:
        assert (site.start / name).exists()
    if not case.is_compared:
        assert [it and it[0] for it in here["answers"]] == list(case.statuses)
        return
    assert_same(here, RECORDED[case.name], case)
    if real_uwsgi is not None:
        assert_same(here, ask_uwsgi(Site(case, directory / "b"), real_uwsgi), case)


@pytest.mark.parametrize("case", REFUSED, ids=lambda it: it.name)
def test_it_is_refused_with_all_reasons(case: Case, tmp_path: Path) -> None:
    site = Site(case, tmp_path)
    status, text = run_command(
        "run-uwsgi", *site.arguments, directory=site.start, environment=site.environment
    )
    assert status != 0
    place = 0
    for part in case.refusals:
        found = site.recorded(text).find(part, place)
        assert found >= 0, (part, text)
        place = found
    assert "Traceback" not in text


@pytest.mark.parametrize("case", CASES, ids=lambda it: it.name)
def test_it_is_explained(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(case, tmp_path)
    monkeypatch.chdir(site.start)
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    try:
        plan = read_plan(site.arguments)
    except ConfigurationError as error:
        assert any(it in str(error) for it in case.refusals)  # noqa: PT017
        return
    explained = report.explain(plan)
    for finding in plan.findings:
        assert str(finding.setting.place) in explained
    values = tomllib.loads("\n".join(report.toml_lines(plan, with_comments=True)))
    assert values.keys() == plan.values.keys() | ({"app"} if plan.app else set())


def test_nearly_all_with_a_socket_answer_as_under_uwsgi() -> None:
    # The build that was recorded has no JSON and no gevent.
    served = [it for it in CASES if it.has_socket and RECORDED[it.name].get("answers", [None])[0]]
    same = [it for it in served if it.is_run and it.is_compared]
    assert len(served) >= 80
    assert len(same) / len(served) >= LEAST_SHARE


def test_a_configuration_without_a_socket_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Site(Case("no-socket.ini"), tmp_path).start)
    [warning] = report.describe_warnings(read_plan(["no-socket.ini"]))
    assert "uWSGI would not start without a socket" in warning


def test_each_record_is_of_a_configuration() -> None:
    assert RECORDED.keys() == {it.name for it in CASES if it.has_socket}
