"""The package for Debian, built and installed in a container, where a real systemd runs two applications by its units."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from uwsgibridge.testing.engine import docker_command, is_required, why_no_engine

ROOT: Final = Path(__file__).parents[2]
BUILD_SECONDS: Final = 900.0
PATIENCE_SECONDS: Final = 120.0

# The base image has Nginx and its user of Debian; systemd comes to it.
DOCKERFILE: Final = """
ARG NGINX_IMAGE_DEBIAN
FROM ${NGINX_IMAGE_DEBIAN} AS base
USER root
RUN apt-get update -q && apt-get install -q -y --no-install-recommends systemd systemd-sysv dbus python3

FROM base AS build
RUN apt-get install -q -y --no-install-recommends build-essential debhelper python3-dev python3-pip python3-venv
COPY . /source
RUN --mount=type=cache,target=/root/.cache/pip SOURCE_DATE_EPOCH=1790000000 /source/deploy/debian/build /built

FROM base
COPY --from=build /built /built
RUN apt-get install -q -y --no-install-recommends /built/uwsgibridge_*.deb
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/lib/systemd/systemd"]
CMD []
"""

APPLICATION: Final = """
import getpass, json, os

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"name": os.environ["NAME"], "user": getpass.getuser(), "worker": os.getpid(),
                        "supervisor": os.getppid()}).encode()]
"""

# Asks until the file is there; says how many requests were answered, and how many were not.
LOAD: Final = """
import concurrent.futures, json, pathlib, sys
from uwsgibridge.client import request

enough = pathlib.Path("/tmp/enough")

def ask(_):
    answered = lost = 0
    while not enough.exists():
        try:
            answered += request("unix:/run/uwsgibridge/blog.sock", "/", timeout_seconds=60).status == 200
        except Exception as error:
            print(repr(error), file=sys.stderr)
            lost += 1
    return answered, lost

with concurrent.futures.ThreadPoolExecutor(4) as threads:
    print(json.dumps([sum(it) for it in zip(*threads.map(ask, range(4)))]))
"""


class Machine:
    """A container in which systemd is the first process."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *command: str, stdin: str = "") -> str:
        done = subprocess.run(
            [docker_command(), "exec", "--interactive", self.name, *command],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self.journal()}"
        return done.stdout

    def journal(self) -> str:
        command = [docker_command(), "exec", self.name, "journalctl", "--no-pager", "--lines=40"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def write(self, path: str, text: str) -> None:
        self.run("sh", "-c", f"mkdir -p $(dirname {path}) && cat >{path}", stdin=text)

    def state(self, unit: str) -> str:
        return self.run("systemctl", "show", "--property=ActiveState", "--value", unit).strip()

    def ask(self, application: str) -> dict[str, object]:
        said: dict[str, object] = json.loads(
            self.run("uwsgibridge", "request", f"unix:/run/uwsgibridge/{application}.sock", "/")
        )
        return said


def docker(*arguments: str, stdin: str | None = None, seconds: float = PATIENCE_SECONDS) -> str:
    done = subprocess.run(
        [docker_command(), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if missing := why_no_engine():
        (pytest.fail if is_required() else pytest.skip)(missing)
    base = os.environ.get("NGINX_IMAGE_DEBIAN")
    if base is None:
        pytest.skip(
            "NGINX_IMAGE_DEBIAN names no image of Debian: eval $(integration/engine/engine up)"
        )
    context = tmp_path_factory.mktemp("context")
    files = ["pyproject.toml", "build_fast.py", "README.md", "CHANGELOG.md", "LICENSE"]
    subprocess.run(
        ["cp", "-r", *files, "uwsgibridge", "docs", "deploy", context], cwd=ROOT, check=True
    )
    (context / "Dockerfile").write_text(DOCKERFILE)
    image = docker(
        *("build", "--quiet", "--build-arg", f"NGINX_IMAGE_DEBIAN={base}", str(context)),
        seconds=BUILD_SECONDS,
    )
    # What systemd needs: mounts of its own, and its hierarchy of cgroups, which version 1 has to be allowed.
    name = docker(
        *("run", "--detach", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"),
        *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--cgroupns=host"),
        *("--env", "container=docker"),
        *("--env", "SYSTEMD_PROC_CMDLINE=SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"),
        *("--volume", "/sys/fs/cgroup/systemd:/sys/fs/cgroup/systemd:rw", image),
    )
    try:
        booted = Machine(name)
        subprocess.run(
            [docker_command(), "exec", name, "sh", "-c", WAIT_FOR_SYSTEMD],
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        for application in ("blog", "shop"):
            booted.write("/srv/site/site_of_test.py", APPLICATION)
            booted.write(
                f"/etc/uwsgibridge/{application}.toml",
                'app = "site_of_test:application"\nchdir = "/srv/site"\nworkers = 2\n'
                f'env = ["NAME={application}"]\n',
            )
        yield booted
    finally:
        docker("rm", "--force", "--volumes", name)
        docker("image", "rm", "--force", image)


# The socket of its bus is there after a moment; from then on, systemctl itself waits.
WAIT_FOR_SYSTEMD: Final = (
    "until [ -S /run/systemd/private ]; do :; done; systemctl is-system-running --wait"
)


@pytest.mark.soak
def test_two_applications_live_by_their_sockets_and_lose_no_request(machine: Machine) -> None:
    machine.run(
        "systemctl", "enable", "--now", "uwsgibridge@blog.socket", "uwsgibridge@shop.socket"
    )
    assert machine.state("uwsgibridge@blog.service") == "inactive"
    blog, shop = machine.ask("blog"), machine.ask("shop")
    assert (blog["name"], shop["name"]) == ("blog", "shop")
    assert blog["user"] == "uwsgibridge"
    assert machine.state("uwsgibridge@blog.service") == "active"

    with ThreadPoolExecutor(1) as threads:
        load = threads.submit(machine.run, "/usr/lib/uwsgibridge/bin/python3", "-c", LOAD)
        try:
            replace_everything(machine)
        finally:
            machine.run("touch", "/tmp/enough")
        answered, lost = json.loads(load.result(PATIENCE_SECONDS))
    assert lost == 0
    assert answered > 100

    status = machine.run(
        "uwsgibridge", "ctl", "--control-socket", "/run/uwsgibridge/blog/control.sock", "status"
    )
    assert "in service" in status or "ready" in status
    machine.run(
        "systemctl", "disable", "--now", "uwsgibridge@blog.socket", "uwsgibridge@blog.service"
    )
    assert machine.ask("shop")["name"] == "shop"
    machine.run("sh", "-c", "test ! -e /run/uwsgibridge/blog.sock")


def replace_everything(machine: Machine) -> None:
    """Reload an application, restart it, and have it taken over by the next version."""
    machine.run("systemctl", "reload", "uwsgibridge@blog")
    machine.run("systemctl", "restart", "uwsgibridge@blog")
    # The same version once more, which is an upgrade to the script of the package.
    pid = machine.run("systemctl", "show", "--property=MainPID", "--value", "uwsgibridge@blog")
    machine.run("sh", "-c", "dpkg --install /built/uwsgibridge_*.deb")
    machine.run(
        *("timeout", "60", "bash", "-c"),
        """grep -q '"upgraded"' < <(journalctl --follow --lines=all --unit uwsgibridge@blog -o cat)""",
    )
    assert pid == machine.run(
        "systemctl", "show", "--property=MainPID", "--value", "uwsgibridge@blog"
    )


@pytest.mark.soak
def test_manual_and_conffile_are_there(machine: Machine) -> None:
    assert "/etc/uwsgibridge/example.toml" in machine.run(
        "dpkg-query", "--showformat=${Conffiles}", "--show", "uwsgibridge"
    )
    files = machine.run("dpkg", "--listfiles", "uwsgibridge")
    assert "/usr/share/man/man1/uwsgibridge-serve.1.gz" in files
    assert "/usr/share/bash-completion/completions/uwsgibridge" in files
