"""`uwsgibridge explain` names the failure for each that really happened, behind each Nginx of this machine."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integration.explaining.running import Logs, errors_of_few_connections, record
from integration.explaining.scenarios import SCENARIOS, Scenario
from integration.frontends.running import FRONTENDS, version_of
from uwsgibridge.explain.catalogue import CATALOGUE
from uwsgibridge.explain.gathering import Gathered, path_of
from uwsgibridge.explain.lines import parse_line
from uwsgibridge.testing import BridgeProcess

# Those without containers: one on PATH, and one that the tests install.
NGINXES = [it for it in FRONTENDS if it.name in {"nginx", "nginx-packaged"}]
HERE = Path(__file__).parent
AT_THE_START = "name-unknown-at-start"
OUT_OF_CONNECTIONS = "out-of-connections"


@dataclass(frozen=True)
class Recorded:
    version: tuple[int, ...]
    logs: Logs
    directory: Path

    def entries(self, lines: list[str], path: str) -> list[str]:
        """Name the entries for the lines about a path; "unknown" is one that the catalogue does not have."""
        found = []
        for text in lines:
            line = parse_line(text)
            if line is not None and path_of(line.target) == path:
                gathered = Gathered()
                entry = gathered.add(line)
                found += [entry.name] if entry else ["unknown"] * gathered.unknown_lines
        return found


@pytest.fixture(scope="module")
def everything() -> Iterator[dict[str, Recorded]]:
    """What each Nginx has logged, and in the same directory the log of the bridge that both stood before."""
    with contextlib.ExitStack() as stack:
        top = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="uwsgibridge-explained-"))
        )
        top.chmod(0o755)
        arguments = (
            *("failing:application", "--app-dir", str(HERE / "apps"), "--workers", "1"),
            *("--bind", f"unix:{top}/bridge.sock", "--socket-mode", "666"),
            *("--max-body-bytes", "1000", "--slow-request-seconds", "0.1"),
        )
        recorded = {}
        with BridgeProcess(*arguments, "--frontend-buffer-bytes", "4096") as bridge:
            for frontend in NGINXES:
                if not frontend.missing:
                    logs = record(frontend, f"{top}/bridge.sock")
                    recorded[frontend.name] = Recorded(version_of(frontend), logs, top)
                    (top / f"{frontend}.errors").write_text("\n".join(logs.errors))
                    (top / f"{frontend}.timed").write_text("\n".join(logs.timed))
        (top / "bridge.log").write_text(bridge.log.text())
        yield recorded


@pytest.fixture(params=NGINXES, ids=str)
def recorded(request: pytest.FixtureRequest, everything: dict[str, Recorded]) -> Recorded:
    if request.param.missing:
        pytest.skip(request.param.missing)
    return everything[request.param.name]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda it: it.name)
def test_a_failure_is_named(recorded: Recorded, scenario: Scenario) -> None:
    if recorded.version < scenario.since:
        pytest.skip("this Nginx does not do so yet")
    found = recorded.entries(recorded.logs.errors, f"/{scenario.name}")
    assert "unknown" not in found, recorded.logs.errors
    assert scenario.entry in found if scenario.entry else not found
    for lines in (recorded.logs.accesses, recorded.logs.timed):
        statuses = recorded.entries(lines, f"/{scenario.name}")
        assert scenario.access in statuses if scenario.access else not statuses


def test_a_name_that_is_unknown_at_the_start(recorded: Recorded, tmp_path: Path) -> None:
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"error_log {tmp_path}/error.log; pid {tmp_path}/pid; events {{ }}\n"
        "http { server { listen unix:"
        f"{tmp_path}/http; location / {{ uwsgi_pass no..name:3031; }} }} }}"
    )
    frontend = next(it for it in NGINXES if not it.missing and version_of(it) == recorded.version)
    done = subprocess.run(
        [frontend.command[0], "-t", "-c", str(configuration)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode
    gathered = Gathered()
    found = [gathered.add(parse_line(it)) for it in done.stderr.splitlines()]
    assert AT_THE_START in [it.name for it in found if it]


def test_nginx_is_out_of_connections(recorded: Recorded) -> None:
    frontend = next(it for it in NGINXES if not it.missing and version_of(it) == recorded.version)
    found = [parse_line(it) for it in errors_of_few_connections(frontend)]
    assert OUT_OF_CONNECTIONS in [
        entry.name for it in found if it and (entry := Gathered().add(it)) is not None
    ]


def test_each_entry_is_really_produced() -> None:
    produced = {name for it in SCENARIOS for name in (it.entry, it.access)}
    assert produced - {""} | {AT_THE_START, OUT_OF_CONNECTIONS} == {it.name for it in CATALOGUE}


def explain(recorded: Recorded, kind: str) -> list[dict[str, Any]]:
    """Run the command as an operator does, with the bridge's log."""
    frontend = next(it for it in NGINXES if not it.missing and version_of(it) == recorded.version)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "uwsgibridge", "explain", f"{frontend}.{kind}"),
            *("--log", "bridge.log", "--format", "json"),
        ],
        cwd=recorded.directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not done.returncode, done.stdout + done.stderr
    cases: list[dict[str, Any]] = json.loads(done.stdout)["cases"]
    return cases


def test_the_bridge_tells_the_cause_of_a_line_of_the_error_log(recorded: Recorded) -> None:
    told = {
        (case["name"], cause["event"])
        for case in explain(recorded, "errors")
        for cause in case["causes"]
        if "/bridge.sock" in (case["upstream"] or "")
    }
    assert told == {
        ("reset-in-answer", "application failed"),
        ("head-too-big", "head of the answer is larger than Nginx's buffer: it answers 502"),
        ("answer-timed-out", "request is slow, and still runs"),
        ("reset-before-answer", "worker ended"),
    }


def test_the_bridge_tells_the_cause_of_a_line_of_the_access_log(recorded: Recorded) -> None:
    told = {
        (case["name"], cause["event"], cause["path"])
        for case in explain(recorded, "timed")
        for cause in case["causes"]
        if "/bridge.sock" in (case["upstream"] or "")
    }
    assert told == {
        ("access-500", "application failed", "/bridge/fails"),
        ("access-500", "application broke a rule", "/bridge/is-short"),
        (
            "access-502",
            "head of the answer is larger than Nginx's buffer: it answers 502",
            "/bridge/has-a-large-head",
        ),
        ("access-502", "worker ended", None),
        ("access-504", "request is slow, and still runs", "/bridge/impatient/is-slow"),
        ("access-413", "refused", "/bridge/too-large"),
    }
