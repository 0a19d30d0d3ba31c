"""The examples for several replicas, as far as that can be seen without containers: Nginx takes them, and their times fit."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from uwsgibridge.config.settings import Settings
from uwsgibridge.frontend.binary import choose_nginx
from uwsgibridge.frontend.config import render_compose_files

DEPLOY = Path(__file__).parents[1] / "deploy"


def times(name: str, directive: str) -> list[int]:
    """Find the seconds of a directive, a parameter or a key in a file."""
    return [
        int(it) for it in re.findall(rf"\b{directive}[ =](\d+)s\b", (DEPLOY / name).read_text())
    ]


@pytest.mark.parametrize("place", ["swarm", "compose"])
def test_nginx_accepts_the_site_with_its_files(place: str, tmp_path: Path) -> None:
    nginx = choose_nginx("packaged")  # `resolve` of a server needs nginx 1.27.3
    files = render_compose_files()
    files["uwsgibridge/upstream.conf"] = (DEPLOY / place / "upstream.conf").read_text()
    if place == "swarm":
        files["conf.d/replicas.conf"] = (DEPLOY / place / "replicas.conf").read_text()
    main = files.pop("nginx.conf").replace("/dev/stdout", "/tmp/access.log")
    files["nginx.conf"] = main.replace("/tmp/", f"{tmp_path}/").replace("127.0.0.1:8081", f"unix:{tmp_path}/a")  # fmt: skip
    files["conf.d/uwsgibridge.conf"] = files["conf.d/uwsgibridge.conf"].replace("listen 8080", f"listen unix:{tmp_path}/b")  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [nginx.path, "-t", "-p", tmp_path, "-c", "nginx.conf", "-e", "stderr"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_the_times_of_the_swarm_fit_each_other() -> None:
    settings = Settings(**tomllib.loads((DEPLOY / "swarm/uwsgibridge.toml").read_text()))
    # As docs/processes.md has the sum.
    most = (
        settings.drain_delay_seconds
        + settings.graceful_timeout_seconds
        + settings.lifespan_timeout_seconds
        + 10
    )
    (grace,) = times("swarm/stack.yaml", "stop_grace_period:")
    assert grace > most
    # Nginx looks up again a second after the answer is too old.
    (valid,) = times("swarm/replicas.conf", "valid")
    (resolver,) = times("swarm/replicas.conf", "resolver_timeout")
    assert settings.drain_delay_seconds > valid + 1 + resolver
    (fail,) = times("swarm/replicas.conf", "fail_timeout")
    (interval,) = times("swarm/stack.yaml", "interval:")
    assert fail < interval
