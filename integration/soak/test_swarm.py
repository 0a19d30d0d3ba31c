"""The stack for Docker Swarm, deployed on the engine of the tests, and updated under load through its Nginx."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.soak.replicas import (
    HEALTHCHECK,
    ROOT,
    docker,
    hosts_that_answer,
    ids,
    images,
    load,
    seen,
    wait_until,
)
from uwsgibridge.testing.engine import is_required, why_no_engine

pytestmark = pytest.mark.soak

STACK_FILE = ROOT / "deploy/swarm/stack.yaml"


@dataclass(frozen=True)
class Stack:
    """A stack that was deployed.

    Attributes:
        name: of the stack.
        url: where its Nginx answers.
        environment: the variables of its file, but for those of a test.
        extra: a further file, for what the tests need.
    """

    name: str
    url: str
    environment: dict[str, str]
    extra: Path

    def deploy(self, **variables: str) -> None:
        files = (f"--compose-file={STACK_FILE}", f"--compose-file={self.extra}")
        docker(
            *("stack", "deploy", "--resolve-image=never", "--detach=true", *files, self.name),
            environment={**self.environment, **variables},
        )

    def update_state(self) -> str:
        (service,) = json.loads(docker("service", "inspect", f"{self.name}_app"))
        return str(service.get("UpdateStatus", {}).get("State"))

    def nginx_log(self) -> str:
        return docker("service", "logs", f"{self.name}_nginx")

    def tasks(self) -> str:
        return docker("service", "ps", "--no-trunc", f"{self.name}_app")


@pytest.fixture(scope="module")
def swarm() -> Iterator[None]:
    missing = why_no_engine()
    if missing:
        (pytest.fail if is_required() else pytest.skip)(missing)
    if docker("info", "--format={{.Swarm.LocalNodeState}}").strip() == "active":
        yield
        return
    networks = docker("network", "ls", "--format={{.Name}}").split()
    docker("swarm", "init", "--advertise-addr=127.0.0.1", "--listen-addr=127.0.0.1")
    try:
        yield
    finally:
        docker("swarm", "leave", "--force")
        if "docker_gwbridge" not in networks:  # Docker leaves it there
            docker("network", "rm", "docker_gwbridge")


@pytest.fixture
def deployment(swarm: None, tmp_path: Path) -> Iterator[Stack]:
    name = f"uwsgibridge-test-{os.getpid()}-{secrets.token_hex(2)}"
    with contextlib.ExitStack() as undo:
        app, nginx = undo.enter_context(images())
        directory = undo.enter_context(ids())
        key = f"{name}-key"
        docker("secret", "create", key, "-", text=secrets.token_hex())
        undo.callback(docker, "secret", "rm", key)
        extra = tmp_path / "test.json"
        volumes = [{"type": "bind", "source": directory, "target": "/ids"}]
        service = {
            "environment": {"VERSION": "${VERSION}"},
            "volumes": volumes,
            "healthcheck": HEALTHCHECK,
        }
        extra.write_text(json.dumps({"version": "3.9", "services": {"app": service}}))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        environment = {"APP_IMAGE": app, "NGINX_IMAGE": nginx, "SECRET": key, "STACK": name}
        deployed = Stack(
            name, f"http://127.0.0.1:{port}", {**environment, "UWSGIBRIDGE_PORT": port}, extra
        )
        undo.callback(remove, deployed)
        yield deployed


def remove(stack: Stack) -> None:
    label = f"label=com.docker.stack.namespace={stack.name}"
    docker("stack", "rm", stack.name)
    for kind in ("container", "network"):
        wait_until(lambda: not docker(kind, "ls", "--all" if kind == "container" else "--no-trunc", "-q", "--filter", label))  # noqa: B023 # fmt: skip


def test_an_update_under_load_loses_no_request(deployment, record_property):
    deployment.deploy(VERSION="one")
    wait_until(lambda: len(hosts_that_answer(deployment.url)) == 3, deployment.tasks)
    with load(deployment.url) as loads:
        deployment.deploy(VERSION="two")
        wait_until(lambda: deployment.update_state() == "completed", deployment.tasks)
        # A version that does not load gets no request, and the update is taken back.
        deployment.deploy(VERSION="broken")
        wait_until(lambda: deployment.update_state() == "rollback_completed", deployment.tasks)
    assert seen(loads, "Swarm", record_property) == {"one", "two"}, deployment.nginx_log()
