"""The pod of deploy/kubernetes/ as it runs, and as it ends: hardened, probed through Nginx, and without a lost request."""

from __future__ import annotations

import contextlib
import http.client
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from integration.kubernetes import manifests
from integration.kubernetes.pod import Pod, build_image, removed_images, version_of
from uwsgibridge.testing.engine import is_required, why_no_engine

# An image is built for it, which takes longer than all else.
pytestmark = pytest.mark.soak

PATIENCE_SECONDS: Final = 30.0
APPS: Final = Path(__file__).parent / "apps"
HOOK_SECONDS: Final = 2
DRAIN_SECONDS: Final = 4
# The first version that knows it.
KEEPALIVE_MIN_TIMEOUT: Final = (1, 27, 4)


@pytest.fixture(scope="module")
def pod() -> Iterator[Pod]:
    missing = why_no_engine()
    if missing:
        if is_required():
            pytest.fail(f"Docker is required, but {missing}", pytrace=False)
        pytest.skip(f"needs Docker: {missing}")
    template = manifests.in_less_time(
        manifests.pod_template(), hook_seconds=HOOK_SECONDS, drain_seconds=DRAIN_SECONDS
    )
    config_maps = manifests.config_maps()
    config_maps["uwsgibridge-options"]["UWSGIBRIDGE_APP"] = "pod_app:application"
    # The engine's network is in the place of the ingress controller's.
    lines = manifests.documented("nginx").replace("10.0.0.0/8", "0.0.0.0/0")
    config_maps["uwsgibridge-nginx"]["server-ingress.conf"] = lines
    python = {"PYTHON_IMAGE": os.environ.get("PYTHON_IMAGE", "python:3.13-slim")}
    built = {"uwsgibridge": build_image(manifests.REPOSITORY, "bridge", python)}
    with removed_images(built):
        nginx = os.environ.get("NGINX_IMAGE", "nginx:stable")
        if version_of(nginx) < KEEPALIVE_MIN_TIMEOUT:
            pytest.skip(f"{nginx} is older than nginx:stable, and knows no keepalive_min_timeout")
        images = {**built, "nginx:stable": nginx}
        with Pod(template, config_maps, images, {"/app": APPS}) as pod:
            yield pod


def status_of(container: object) -> dict[str, str]:
    """What the kernel says of the first process."""
    output = container.exec_run(["cat", "/proc/1/status"]).output.decode()  # type: ignore[attr-defined]
    return dict(line.split(":\t", 1) for line in output.splitlines() if ":\t" in line)


def ask(
    pod: Pod, path: str, port: int = 8080, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """Send one request by a connection of its own."""
    connection = http.client.HTTPConnection(*pod.address(port), timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.parametrize(("name", "user"), [("main", "10001"), ("sidecar", "10002")])
def test_a_container_has_no_privileges(pod: Pod, name: str, user: str) -> None:
    container = getattr(pod, name)
    status = status_of(container)
    assert set(status["Uid"].split()) == {user}
    assert set(status["Gid"].split()) == {"10001"}
    assert {int(status[it], 16) for it in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"  # a filter, that of the engine
    assert container.exec_run(["touch", "/etc/mine"]).exit_code != 0


def test_probes_and_figures_come_through_nginx(pod: Pod) -> None:
    assert pod.probe("readinessProbe") == pod.probe("livenessProbe") == 200
    status, figures = ask(pod, "/metrics", 8081)
    assert status == 200
    assert b"uwsgibridge_workers_wanted 2" in figures
    # The live page shows paths of requests: no place for it on a port that every pod of a cluster reaches.
    assert ask(pod, "/", 8081)[0] == ask(pod, "/requests", 8081)[0] == 404
    # `kubectl exec`: the supervisor is found without an option.
    assert pod.main.exec_run(["uwsgibridge", "ctl", "status"]).exit_code == 0


def test_the_application_learns_who_asks_behind_an_ingress(pod: Pod) -> None:
    headers = {"X-Forwarded-For": "203.0.113.7"}
    assert ask(pod, "/told", headers=headers) == (200, b"https 203.0.113.7")


class Client:
    """Asks one time after the other until it is told to go elsewhere, as a proxy does that hears of a pod's end."""

    def __init__(self, pod: Pod, *, keeps_alive: bool) -> None:
        self._address = pod.address(8080)
        self._keeps_alive = keeps_alive
        self.is_elsewhere = threading.Event()
        self.answered = 0
        self.lost: list[str] = []

    def run(self) -> None:
        try:
            while not self.is_elsewhere.is_set():
                connection = http.client.HTTPConnection(*self._address, timeout=PATIENCE_SECONDS)
                with contextlib.closing(connection):
                    self._ask_by(connection)
        except (OSError, http.client.HTTPException) as error:
            self.lost.append(repr(error))

    def _ask_by(self, connection: http.client.HTTPConnection) -> None:
        """Ask by one connection, until Nginx says in an answer that it closes it. An end without that is a lost request."""
        while not self.is_elsewhere.is_set():
            connection.request("GET", "/")
            answer = connection.getresponse()
            body = answer.read()
            if (answer.status, body) == (200, b"quick"):
                self.answered += 1
            else:
                self.lost.append(f"{answer.status} {body!r}")
            if not self._keeps_alive or answer.will_close:
                return


def test_a_pod_that_ends_loses_no_request(pod: Pod) -> None:
    clients = [Client(pod, keeps_alive=it) for it in (True, True, False, False)]
    with ThreadPoolExecutor(len(clients) + 4) as threads, contextlib.ExitStack() as at_the_end:
        running = [threads.submit(it.run) for it in clients]
        for client in clients:
            at_the_end.callback(client.is_elsewhere.set)
        stream = threads.submit(ask, pod, "/events")
        wait_until(lambda: all(it.answered > 20 for it in clients))
        slow = threads.submit(ask, pod, "/slow")
        ended = threads.submit(pod.stop)
        # The pod is taken out of its Service, and serves on.
        wait_until(lambda: pod.probe("readinessProbe") == 503)
        assert pod.probe("livenessProbe") == 200
        # The hook is over: no connection is kept, and each client is served by new ones.
        wait_until(lambda: keeps_no_connection(pod))
        before = [it.answered for it in clients]
        wait_until(lambda: all(it.answered > n + 20 for it, n in zip(clients, before, strict=True)))
        late = threads.submit(ask, pod, "/slow")
        for client in clients:
            client.is_elsewhere.set()
        assert [it.result(PATIENCE_SECONDS) for it in running] == [None] * len(clients)
        assert not ended.done()
        assert ended.result(PATIENCE_SECONDS) == (0, 0)
        assert stream.result(1) == (200, b"data: hello\n\ndata: goodbye\n\n")
        assert slow.result(1) == late.result(1) == (200, b"slow")
    assert [it.lost for it in clients] == [[]] * len(clients)


def keeps_no_connection(pod: Pod) -> bool:
    connection = http.client.HTTPConnection(*pod.address(8080), timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        return answer.will_close


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
