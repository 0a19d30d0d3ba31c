"""Compose with several bridges, which come, go and change their addresses under load, while Nginx follows them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.soak.replicas import (
    APPLICATION,
    BUILD_SECONDS,
    HEALTHCHECK,
    PATIENCE_SECONDS,
    ROOT,
    docker,
    hosts_that_answer,
    ids,
    load,
    seen,
    wait_until,
)
from uwsgibridge.testing.engine import is_required, why_no_engine

pytestmark = pytest.mark.soak

UPDATE = ROOT / "deploy/compose/update"


@dataclass(frozen=True)
class Project:
    """A project of Compose.

    Attributes:
        environment: the variables of its files and of Compose, but for the version.
    """

    environment: dict[str, str]

    def compose(self, *arguments: str, version: str, seconds: float = PATIENCE_SECONDS) -> str:
        environment = {**self.environment, "VERSION": version}
        return docker("compose", *arguments, environment=environment, seconds=seconds)

    def update(self, version: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [UPDATE],
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            env={**os.environ, **self.environment, "VERSION": version},
        )

    def containers(self) -> set[str]:
        """Name those of the bridge as they know themselves."""
        return {it[:12] for it in self.compose("ps", "-q", "bridge", version="").split()}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    missing = why_no_engine()
    if missing:
        (pytest.fail if is_required() else pytest.skip)(missing)
    site = tmp_path / "site"
    site.mkdir(mode=0o755)
    (site / "mysite.py").write_text(APPLICATION)
    extra = tmp_path / "compose.test.json"
    with contextlib.ExitStack() as undo:
        volumes = [f"{undo.enter_context(ids())}:/ids"]
        bridge = {
            "environment": {"VERSION": "${VERSION}"},
            "volumes": volumes,
            "healthcheck": HEALTHCHECK,
        }
        extra.write_text(json.dumps({"services": {"bridge": bridge}}))
        files = ("compose.yaml", "deploy/compose/scale.yaml", str(extra))
        started = Project(
            {
                "COMPOSE_FILE": ":".join(str(ROOT / it) for it in files),
                "COMPOSE_PROJECT_NAME": f"uwsgibridge-test-{os.getpid()}-{secrets.token_hex(2)}",
                "APP_DIR": str(site),
                "UWSGIBRIDGE_ARGS": "mysite:application",
                "UWSGIBRIDGE_PORT": "127.0.0.1:0",
            }
        )
        undo.callback(started.compose, "down", "--volumes", "--rmi=local", version="")
        yield started


def test_replicas_come_and_go_under_load_and_no_request_is_lost(project, record_property):
    project.compose("up", "--detach", "--build", "--wait", version="one", seconds=BUILD_SECONDS)
    url = f"http://{project.compose('port', 'nginx', '8080', version='').strip()}"
    wait_until(lambda: hosts_that_answer(url) == project.containers())
    with load(url) as loads:
        scale = ("up", "--detach", "--wait", "--no-recreate", "--scale")
        project.compose(*scale, "bridge=3", version="one")
        first = project.containers()
        assert len(first) == 3
        wait_until(lambda: hosts_that_answer(url) == first)

        updated = project.update("two")
        assert updated.returncode == 0, updated.stderr
        second = project.containers()
        assert len(second) == 3
        assert not first & second
        wait_until(lambda: hosts_that_answer(url) == second)

        refused = project.update("broken")
        assert refused.returncode == 1
        assert "this version does not load" in refused.stderr
        assert project.containers() == second

        project.compose(*scale, "bridge=1", version="two")
        last = project.containers()
        assert len(last) == 1
        wait_until(lambda: hosts_that_answer(url) == last)
    outcomes = seen(loads, "Compose", record_property)
    assert outcomes == {"one", "two"}, project.compose("logs", "nginx", version="")
