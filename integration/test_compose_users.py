"""A bridge that starts as root in a container, with its files in volumes that others share, or may write.

It becomes www-data. Nginx, another user in another container, reaches it by a unix socket in a shared volume.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest

from integration.workers import PATIENCE_SECONDS, fetch
from uwsgibridge.testing import StackError

if TYPE_CHECKING:
    from docker.models.containers import Container

    from uwsgibridge.testing import ComposeStack

APPLICATION = """
import os

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getuid()} {os.getpid()}".encode()]
"""

WWW_DATA = "33"  # in Debian's images
NGINX_GROUP = "10001"

CAPABILITIES = ["SETUID", "SETGID", "CHOWN"]
VOLUMES = {
    "log": "/var/log/mysite",
    "pid": "/run/mysite",
    "shared": "/run/shared",
    "theirs": "/srv/theirs",
}

ROOT_AND_VOLUMES = {
    "services": {
        "bridge": {
            "user": "0:0",
            "cap_add": CAPABILITIES,
            "volumes": [f"{name}:{path}" for name, path in VOLUMES.items()],
        },
        "nginx": {"volumes": ["shared:/run/shared:ro"]},
    },
    "volumes": dict.fromkeys(VOLUMES),
}

BY_THE_SHARED_SOCKET = """
location /shared {
    uwsgi_pass unix:/run/shared/app.sock;
}
"""


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, compose_stack: Any
) -> Iterator[ComposeStack]:
    """Whatever was refused beside it, it serves on and ends in order."""
    directory = tmp_path_factory.mktemp("users")
    directory.chmod(0o755)
    (directory / "mysite.py").write_text(APPLICATION)
    stack: ComposeStack = compose_stack(
        "mysite",
        app_dir=directory,
        serve_args=(
            *("--bind", "0.0.0.0:3031", "--bind", "unix:/run/shared/app.sock"),
            *("--user", "www-data", "--socket-owner", f":{NGINX_GROUP}"),
            *("--log-file", "/var/log/mysite/mysite.log", "--pid-file", "/run/mysite/mysite.pid"),
        ),
        nginx_directives=BY_THE_SHARED_SOCKET,
        overrides=ROOT_AND_VOLUMES,
    )
    yield stack
    assert stack.stop() == 0


def run(deployment: ComposeStack, *command: str, user: str = "0:0") -> tuple[int, str]:
    """Run a program in the bridge's container."""
    result = deployment.bridge.exec_run(list(command), user=user)
    assert isinstance(result.output, bytes)
    assert result.exit_code is not None
    return result.exit_code, result.output.decode()


def serve(deployment: ComposeStack, *options: str) -> tuple[int, str]:
    """Start another bridge in that container, as root, which is to refuse."""
    command = ("timeout", str(PATIENCE_SECONDS), "uwsgibridge", "serve", "mysite", "--workers", "0")
    return run(deployment, *command, "--bind", "127.0.0.1:0", "--control-socket", "none", *options)


def test_the_files_of_a_safe_layout_belong_to_the_right_users(deployment: ComposeStack) -> None:
    assert str(fetch(deployment.url)[0]) == WWW_DATA
    owners = run(
        deployment,
        *("stat", "--format", "%U %a %F", "/proc/1", "/var/log/mysite/mysite.log"),
        *("/run/mysite/mysite.pid", "/run/shared/app.sock"),
    )
    assert owners[1].splitlines() == [
        "www-data 555 directory",
        "www-data 640 regular file",
        "root 644 regular file",
        "www-data 660 socket",
    ]
    assert run(deployment, "cat", "/run/mysite/mysite.pid") == (0, "1\n")
    _, log = run(deployment, "cat", "/var/log/mysite/mysite.log", user="www-data")
    assert '"event": "listening"' in log


def test_an_nginx_of_another_user_reaches_the_socket(deployment: ComposeStack) -> None:
    assert deployment.nginx.attrs["Config"]["User"] == f"10002:{NGINX_GROUP}"
    assert fetch(f"{deployment.url}/shared")[0] == WWW_DATA


@pytest.mark.parametrize(
    ("owner", "options", "why"),
    [
        (
            WWW_DATA,
            ("--user", "www-data", "--log-file", "/srv/theirs/link"),
            "www-data can change /srv/theirs, so root does not follow the link /srv/theirs/link",
        ),
        (
            "54321",
            ("--user", "www-data", "--log-file", "/srv/theirs/log"),
            "www-data may not open it, and root does not since user 54321 can change /srv/theirs",
        ),
        (
            WWW_DATA,
            ("--user", "www-data", "--pid-file", "/srv/theirs/pid"),
            "www-data can change /srv/theirs, and with it which process root signals",
        ),
    ],
    ids=["log-link", "log-of-another", "pid"],
)
def test_what_another_user_may_write_is_refused(
    deployment: ComposeStack, owner: str, options: tuple[str, ...], why: str
) -> None:
    for command, user in (
        (("chown", WWW_DATA, "/srv/theirs"), "0:0"),
        (("ln", "-sf", "/var/log/mysite/victim", "/srv/theirs/link"), "www-data"),
        (("chown", owner, "/srv/theirs"), "0:0"),
    ):
        assert run(deployment, *command, user=user) == (0, "")
    status, said = serve(deployment, *options)
    assert status not in {0, 124}, said  # 124: it had to be ended
    assert why in said
    assert "Traceback" not in said
    assert run(deployment, "ls", "/var/log/mysite") == (0, "mysite.log\n")
    assert run(deployment, "ls", "/srv/theirs") == (0, "link\n")


def test_a_log_file_in_the_users_own_volume(deployment: ComposeStack) -> None:
    """Whose owner opens it; the start is refused for something else, which is told there."""
    log = "/srv/theirs/log"
    assert run(deployment, "chown", WWW_DATA, "/srv/theirs")[0] == 0
    options = ("--user", "www-data", "--log-file", log, "--bind", "fd://99")
    status, said = serve(deployment, *options)
    owner, why = (
        run(deployment, *it, log, user="www-data") for it in (("stat", "--format", "%U"), ("cat",))
    )
    # First, for other tests need it to be gone.
    assert run(deployment, "rm", log, user="www-data")[0] == 0
    assert status not in {0, 124}
    assert said == (
        f"Error: the start has failed with exit status {status}: {log} (--log-file) says why\n"
    )
    assert owner == (0, "www-data\n")
    assert "descriptor 99 is not an inherited socket" in why[1]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            ("--bind", "0.0.0.0:3031", "--pid-file", "/run/mysite/mysite.pid"),
            "process 1 of that file is running",
        ),
        (
            ("--bind", "unix:/run/shared/app.sock"),
            "unix:/run/shared/app.sock: another process listens there",
        ),
    ],
    ids=["pid", "socket"],
)
def test_another_container_is_refused(
    deployment: ComposeStack, options: tuple[str, ...], why: str
) -> None:
    with pytest.raises(StackError) as refused:
        deployment.compose(
            *("run", "--rm", "--no-deps", "--no-TTY", "bridge", "serve", "mysite", *options),
            timeout_seconds=PATIENCE_SECONDS,
        )
    assert why in refused.value.log
    assert fetch(f"{deployment.url}/shared")[0] == WWW_DATA


def test_of_several_containers_that_start_at_once_one_serves(deployment: ComposeStack) -> None:
    bridge = deployment.bridge
    assert bridge.client is not None
    engine = bridge.client.containers
    volumes = {f"{deployment.project}_shared": {"bind": "/run/shared", "mode": "rw"}}
    # The example page needs no volume of ours.
    command = [
        "serve",
        "uwsgibridge.demo.page:app",
        "--workers",
        "0",
        "--bind",
        "unix:/run/shared/race.sock",
    ]

    def start(_: int) -> Container:
        return engine.run(bridge.attrs["Image"], command, user="0:0", volumes=volumes, detach=True)

    with ThreadPoolExecutor() as pool:
        containers = list(pool.map(start, range(3)))
    try:
        said = wait_for_words_of(containers)
        serving = [it for it, words in said.items() if '"event": "listening"' in words]
        assert len(serving) == 1, said
        refused = "unix:/run/shared/race.sock: another process listens there"
        assert [refused in words for it, words in said.items() if it not in serving] == [True, True]
        assert run(deployment, "uwsgibridge", "ping", "--quiet", "unix:/run/shared/race.sock") == (
            0,
            "",
        )
        serving[0].stop()
        assert serving[0].wait()["StatusCode"] == 0
    finally:
        for one in containers:
            one.remove(force=True)


def wait_for_words_of(containers: list[Container]) -> dict[Container, str]:
    """Read what each says until it listens, or has ended."""
    deadline = monotonic() + PATIENCE_SECONDS
    while True:
        for one in containers:
            one.reload()
        ended = {one for one in containers if one.status == "exited"}
        said = {one: one.logs().decode() for one in containers}
        if all(one in ended or '"event": "listening"' in words for one, words in said.items()):
            return said
        assert monotonic() < deadline, said
        sleep(0.1)


def test_what_a_killed_container_leaves_refuses_no_start(deployment: ComposeStack) -> None:
    """The number in its pid file is that of process 1, which is there in each container."""
    deployment.bridge.kill(signal.SIGKILL)
    deployment.wait_until_up()
    assert run(deployment, "cat", "/run/mysite/mysite.pid") == (0, "1\n")
    assert fetch(f"{deployment.url}/shared")[0] == WWW_DATA
