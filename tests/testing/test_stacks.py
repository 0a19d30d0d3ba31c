"""``uwsgibridge.testing``: a bridge process, and a stack with an Nginx in front."""

from __future__ import annotations

import signal
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from uwsgibridge.client import ping, request
from uwsgibridge.frontend.private import NginxStartError
from uwsgibridge.testing import (
    BridgeProcess,
    ComposeStack,
    LocalStack,
    Site,
    StackError,
    event_with,
)

APP = """
import os, sys

def application(environ, start_response):
    print("asked for", environ["PATH_INFO"], file=sys.stderr, flush=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [os.environ.get("GREETING", "hello").encode()]
"""


@pytest.fixture
def app_dir(tmp_path):
    (tmp_path / "greeting.py").write_text(APP)
    return tmp_path


def get(url):
    with urlopen(url, timeout=20) as answer:
        return answer.read()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_an_application_answers_behind_nginx(app_dir, kind):
    with LocalStack("greeting:application", app_dir=app_dir, socket=kind) as stack:
        assert get(stack.url) == b"hello"
        assert request(stack.address).body == b"hello"
        assert stack.address.startswith("unix:" if kind == "unix" else "127.0.0.1:")
        assert Path(f"/proc/{stack.pid}").exists()
        assert stack.stop() == 0
        assert stack.stop() == 0
    assert stack.log_events()[-1]["event"] == "stopped"
    # What the application prints is there as well.
    assert "asked for /\n" in stack.bridge_log
    assert "start worker process" in stack.nginx_log
    if kind == "unix":
        assert not Path(stack.address.removeprefix("unix:")).parent.exists()


def test_options_reach_both(app_dir):
    with LocalStack(
        "greeting:application",
        app_dir=app_dir,
        environment={"GREETING": "servus"},
        serve_args=("--max-vars", "3"),
        site=Site(client_max_body_bytes=10),
        nginx_directives="""
            location /own/ { return 200 "nginx"; }
            location /few/ { uwsgi_param PATH_INFO /few; uwsgi_pass $uwsgibridge_upstream;
                             uwsgi_pass_request_headers off; }
        """,
    ) as stack:
        assert get(f"{stack.url}/own/") == b"nginx"
        assert get(f"{stack.url}/few/") == b"servus"
        for data, status in ((None, 431), (bytes(11), 413)):
            with pytest.raises(HTTPError) as caught:
                urlopen(stack.url, data=data, timeout=20)
            # It is an answer, too; Python 3.14 complains of one that is left open.
            with caught.value as answer:
                assert answer.status == status
        event = stack.wait_for_event(event_with(event="refused"))
        assert event["option"] == "--max-vars"


def test_directives_that_nginx_refuses_leave_nothing_running(app_dir):
    stack = LocalStack("greeting:application", app_dir=app_dir, nginx_directives="no_such_thing;")
    with pytest.raises(NginxStartError, match="no_such_thing"):
        stack.start()
    assert not Path(f"/proc/{stack.pid}").exists()


def test_a_bridge_that_ends_at_its_start_says_why(app_dir):
    with pytest.raises(StackError) as caught:
        LocalStack("greeting:missing", app_dir=app_dir).start()
    assert caught.value.exit_status == 3
    assert "missing" in caught.value.log


def test_a_bridge_that_is_too_slow_is_stopped(tmp_path):
    (tmp_path / "slow.py").write_text("import signal\nsignal.pause()\n")
    bridge = BridgeProcess(
        *("slow:application", "--app-dir", str(tmp_path), "--bind", "127.0.0.1:0"),
        start_timeout_seconds=0.5,
    )
    with pytest.raises(StackError, match=r"does not listen within 0\.5 s") as caught:
        bridge.start()
    assert caught.value.exit_status is None
    assert not Path(f"/proc/{bridge.pid}").exists()


def test_a_stack_may_have_more_time_to_start_or_less(tmp_path):
    (tmp_path / "slow.py").write_text("import signal\nsignal.pause()\n")
    stack = LocalStack("slow:application", app_dir=tmp_path, start_timeout_seconds=0.5)
    with pytest.raises(StackError, match=r"does not listen within 0\.5 s"):
        stack.start()
    assert not Path(f"/proc/{stack.pid}").exists()


def test_a_signal_ends_a_bridge(app_dir):
    with BridgeProcess(
        *("greeting:application", "--app-dir", str(app_dir), "--bind", "127.0.0.1:0")
    ) as bridge:
        ping(bridge.address)
        bridge.signal(signal.SIGKILL)
        assert bridge.wait_ended(10) == -signal.SIGKILL
        assert bridge.stop() == -signal.SIGKILL


def test_a_bridge_that_goes_on_is_said_to(app_dir):
    with (
        BridgeProcess(
            *("greeting:application", "--app-dir", str(app_dir), "--bind", "127.0.0.1:0")
        ) as bridge,
        pytest.raises(StackError, match="did not end"),
    ):
        bridge.wait_ended(0.01)


def test_a_compose_stack_needs_the_sources(tmp_path):
    # Somebody else's project has such a file, too.
    (tmp_path / "compose.yaml").touch()
    with pytest.raises(StackError, match=r"no checkout of uwsgibridge.*project_dir"):
        ComposeStack("greeting:application", project_dir=tmp_path).start()
