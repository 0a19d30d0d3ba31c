"""Which servers a run consists of, and the sentence for what can't be run."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.server_table import PAIRS, SERVERS
from benchmarks.servers import (
    Pair,
    application,
    choose,
    pairs_with_before,
    pairs_with_pure,
    require_installed,
    version,
    with_before,
    with_pure,
)

if TYPE_CHECKING:
    from benchmarks.servers import App, Server

NAMED = {server.name: server for server in SERVERS}
# A distribution of that name isn't installed.
MISSING = "uwsgibridge-no-such-distribution"


def test_every_ratio_is_of_servers_that_are_there() -> None:
    assert {name for pair in PAIRS for name in (pair.server, pair.baseline)} <= set(NAMED)


def test_the_default_run_has_every_server_of_the_bridge_and_a_peer_of_each_interface() -> None:
    servers = choose(SERVERS)
    # Those with more switched on are held against the others when they are named.
    plain = [s for s in SERVERS if s.is_bridge and not s.name.endswith(("-figures", "-log"))]
    assert [s for s in servers if s.is_bridge] == plain
    assert {s.interface for s in servers if not s.is_bridge} == {"wsgi", "asgi"}


def test_only_can_name_servers_that_are_not_in_the_default_run() -> None:
    assert [s.name for s in choose(SERVERS, ["hypercorn-trio", "uwsgi"])] == [
        "uwsgi",
        "hypercorn-trio",
    ]


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(BenchmarkError, match=r"--only: there is no server 'apache'.*bridge-wsgi"):
        choose(SERVERS, ["apache"])


def test_a_missing_peer_is_named_with_its_package_and_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "benchmarks.servers.version", lambda package: None if package == "pyuwsgi" else "1"
    )
    with pytest.raises(BenchmarkError, match=r"uwsgi.* without pyuwsgi: .*\[bench\].*--only"):
        require_installed([NAMED["uwsgi"], NAMED["bridge-wsgi"]])
    require_installed([NAMED["bridge-wsgi"]])


def test_a_version_is_that_of_the_installed_distribution() -> None:
    assert version("trio")
    assert version(MISSING) is None


@pytest.mark.parametrize(
    ("name", "app", "expected"),
    [
        ("uwsgi", "plain", "benchmarks.apps.plain:wsgi"),
        ("uvicorn", "plain", "benchmarks.apps.plain:asgi"),
        ("uwsgi", "flask", "benchmarks.apps.flask_hello:app"),
        ("uwsgi", "django", "benchmarks.apps.django_hello:app"),
        ("uvicorn", "fastapi", "benchmarks.apps.fastapi_hello:app"),
    ],
)
def test_the_application_fits_the_interface(name: str, app: App, expected: str) -> None:
    assert application(NAMED[name], app) == expected


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
@pytest.mark.parametrize("endpoint", ["unix:/run/x.sock", "127.0.0.1:3031"])
def test_each_command_line_names_the_application_and_the_endpoint(
    server: Server, endpoint: str
) -> None:
    argv = server.argv("module:app", endpoint, 128, 1)
    assert "module:app" in argv
    forms = {
        "uvicorn": ["--uds /run/x.sock", "--host 127.0.0.1 --port 3031"],
        "granian": ["--uds /run/x.sock", "--host 127.0.0.1 --port 3031"],
        "waitress": ["--unix-socket=/run/x.sock", "--listen=127.0.0.1:3031"],
        "uwsgi": ["--socket /run/x.sock", "--socket 127.0.0.1:3031"],
    }
    given = forms.get(server.name.split("-")[0], [f"--bind {endpoint}"] * 2)
    assert given["unix" not in endpoint] in " ".join(argv)


@pytest.mark.parametrize(
    "server", [it for it in SERVERS if it.has_workers], ids=lambda server: server.name
)
def test_each_command_line_says_how_many_processes_serve(server: Server) -> None:
    words = {"--workers", "--processes"}
    argv = server.argv("module:app", "unix:/run/x.sock", 128, 4)
    (given,) = {value for word, value in pairwise(argv) if word in words}
    assert given == "4"


def test_the_bridge_is_run_by_the_interpreter_of_the_benchmark() -> None:
    argv = NAMED["bridge-wsgi"].argv("module:app", "unix:/run/x.sock", 128, 1)
    assert argv[:4] == [sys.executable, "-m", "uwsgibridge", "serve"]
    assert " --threads 8" in " ".join(argv)
    assert " --workers 1" in " ".join(argv)


def test_before_adds_the_bridge_of_another_checkout_and_the_ratio_to_it(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    servers = with_before(choose(SERVERS, ["bridge-wsgi", "uwsgi"]), tmp_path)
    assert [server.name for server in servers] == ["bridge-wsgi", "bridge-wsgi-before", "uwsgi"]
    added = servers[1]
    assert added.checkout == tmp_path
    argv = added.argv("module:app", "unix:/run/x.sock", 128, 1)
    assert argv[:4] == [str(python), "-m", "uwsgibridge", "serve"]
    assert pairs_with_before(servers) == [Pair("bridge-wsgi", "bridge-wsgi-before")]


def test_before_needs_an_environment_in_the_checkout(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"--before .*no .venv/bin/python; run `make test`"):
        with_before(choose(SERVERS), tmp_path)


def test_before_needs_a_server_of_the_bridge(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    with pytest.raises(BenchmarkError, match=r"--before .*--only"):
        with_before(choose(SERVERS, ["uwsgi"]), tmp_path)


def test_pure_adds_the_bridge_without_its_accelerator_and_its_ratios() -> None:
    servers = with_pure(choose(SERVERS, ["bridge-wsgi", "uwsgi"]))
    assert [server.name for server in servers] == ["bridge-wsgi", "bridge-wsgi-pure", "uwsgi"]
    assert [server.environment for server in servers] == [{}, {"UWSGIBRIDGE_PURE": "1"}, {}]
    pairs = [Pair("bridge-wsgi", "uwsgi"), Pair("bridge-trio", "uvicorn")]
    assert pairs_with_pure(servers, pairs) == [
        Pair("bridge-wsgi", "bridge-wsgi-pure"),
        Pair("bridge-wsgi-pure", "uwsgi"),
    ]
