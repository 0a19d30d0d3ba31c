"""The command line: what is refused before anything is started, and the list of servers."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.server_table import SERVERS
from benchmarks.workloads import WORKLOADS


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--connections", "0"], 2, "--connections"),
        (["--connections", "1,x"], 2, "'1,x' is no list of numbers above 0, such as 1,8,64"),
        (["--rounds", "0"], 2, "--rounds"),
        (["--workloads", "goodbye"], 1, "there is no 'goodbye'; there are hello, headers"),
        (["--only", "apache"], 1, "there is no server 'apache'"),
        (["--only", "bridge-wsgi", "--connections", "100000000"], 1, "net.core.somaxconn"),
    ],
)
def test_what_can_not_be_run_is_refused_in_words(
    arguments: list[str], status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.__main__.find_wrk", lambda: "wrk")
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == status
    assert said in result.output


def test_the_list_names_every_workload_and_every_server_with_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "benchmarks.servers.version", lambda package: None if package == "pyuwsgi" else "1"
    )
    result = CliRunner().invoke(main, ["--list"])
    assert result.exit_code == 0
    workloads, servers = result.output.split("\n\n")
    assert {line.split()[0] for line in workloads.splitlines()} >= {it.name for it in WORKLOADS}
    rows = {line.split()[0]: line for line in servers.splitlines()}
    assert set(rows) >= {server.name for server in SERVERS}
    assert rows["uwsgi"].endswith(" pyuwsgi")
    assert rows["bridge-wsgi"].endswith(" -")
