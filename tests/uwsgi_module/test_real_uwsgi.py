"""The module beside that of a real uWSGI: the same application, the same file, the same answers."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.bridge_process import running_process
from tests.real_uwsgi import require_real_uwsgi
from uwsgibridge.client import request
from uwsgibridge.uwsgi_module.missing import ATTRIBUTES, FUNCTIONS

PATIENCE_SECONDS: Final = 60.0

# Writes what the module is as JSON, when the first worker has come up.
APPLICATION: Final = """
import json, types
import uwsgi, uwsgidecorators

def answer(expression):
    try:
        return repr(eval(expression))
    except Exception as error:
        return f"{{type(error).__name__}}: {{error}}"

EXPRESSIONS = {expressions!r}

forked = []

@uwsgidecorators.postfork
def one():
    forked.append(uwsgi.worker_id() > 0)

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({{
        "answers": {{it: answer(it) for it in EXPRESSIONS}},
        "names": sorted(it for it in dir(uwsgi) if not it.startswith("_")),
        "decorators": sorted(it for it, value in vars(uwsgidecorators).items() if callable(value) and not it.startswith("_")),
        "opt": {{key: repr(value) for key, value in uwsgi.opt.items()}},
    }}).encode()]
"""

# Each is the same text with both.
EXPRESSIONS: Final = (
    "forked", "uwsgi.numproc", "uwsgi.cores", "uwsgi.has_threads", "type(uwsgi.version)", "uwsgi.version_info[:2]",
    "uwsgi.mule_id()", "uwsgi.worker_id() in (1, 2)", "uwsgi.masterpid() > 1", "uwsgi.loop", "uwsgi.applications",
    "uwsgi.is_a_reload", "uwsgi.is_locked()", "uwsgi.lock()", "uwsgi.is_locked(0)", "uwsgi.unlock()", "uwsgi.unlock()",
    "uwsgi.is_locked()", "uwsgi.lock(1)", "uwsgi.lock(-1)", "uwsgi.set_logvar('user', 'ä')", "uwsgi.get_logvar('user')",
    "uwsgi.set_logvar(b'user', b'x')", "uwsgi.get_logvar(b'user')", "uwsgi.get_logvar('none')",
    "uwsgi.set_user_harakiri(0)", "uwsgi.log('a line')", "uwsgi.log_this_request()", "uwsgi.signal_registered(77)",
    "uwsgi.register_signal(78, '', print)", "uwsgi.add_timer(78, 500)", "uwsgi.add_cron(78, 0, 0, 1, 1, -1)",
    "uwsgi.signal_registered(78)", "uwsgi.i_am_the_spooler()", "uwsgi.rpc_list()", "uwsgi.ready()",
    "type(uwsgi.mem()[0])", "hasattr(uwsgi, 'spool')", "hasattr(uwsgi, 'atexit')", "hasattr(uwsgi, 'queue_get')",
    "[it['id'] for it in uwsgi.workers()]", "type(uwsgi.workers())", "type(uwsgi.workers()[0]['status'])",
    "type(uwsgi.micros())", "uwsgi.SPOOL_OK", "type(uwsgi.hostname)",
)  # fmt: skip

INI: Final = """[uwsgi]
socket = {address}
module = site_app
master = true
processes = 2
threads = 2
my-setting = hello
flag
empty =
env = A=1
env = B=2
die-on-term
"""


def _answer(address: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request(address).body)
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give what the real module is, and what ours is."""
    program = require_real_uwsgi()
    directory = tmp_path_factory.mktemp("both")
    (directory / "site_app.py").write_text(APPLICATION.format(expressions=EXPRESSIONS))
    decorators = importlib.util.find_spec("uwsgidecorators")
    if decorators is None or decorators.origin is None:
        pytest.skip("uWSGI's own uwsgidecorators is not installed")
    # Ours comes before the file, which the real one needs.
    shutil.copy(decorators.origin, directory)
    real = _ask_real(program, directory)
    (directory / "ours.ini").write_text(INI.format(address="127.0.0.1:0"))
    with running_process(
        *("run-uwsgi", "--ini", "ours.ini"),
        directory=directory,
        environment={"UWSGIBRIDGE_LOG_FORMAT": "json", "UWSGIBRIDGE_WORKERS": "2"},
    ) as bridge:
        ours = _answer(bridge.address)
        assert bridge.stop() == 0
    return real, ours


def _ask_real(program: str, directory: Path) -> dict[str, Any]:
    (directory / "real.ini").write_text(INI.format(address="real.sock"))
    with subprocess.Popen(
        [program, "--ini", "real.ini"],
        cwd=directory,
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if "spawned uWSGI worker 2" in line:
                    break
            answer = request(f"unix:{directory / 'real.sock'}", timeout_seconds=PATIENCE_SECONDS)
            assert answer.status == 200, "".join(lines)
            found: dict[str, Any] = json.loads(answer.body)
            return found
        finally:
            # The master and its workers: a signal that comes before the master listens for it is lost.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_SECONDS)


def test_each_expression_gives_the_same(told: tuple[dict[str, Any], dict[str, Any]]) -> None:
    real, ours = told
    assert ours["answers"] == real["answers"]


def test_the_options_are_the_same(told: tuple[dict[str, Any], dict[str, Any]]) -> None:
    real, ours = told
    expected = dict(real["opt"])
    assert expected.pop("ini") == "b'real.ini'"
    assert expected.pop("socket") == "b'real.sock'"
    found = dict(ours["opt"])
    assert found.pop("ini") == "b'ours.ini'"
    assert found.pop("socket") == "b'127.0.0.1:0'"
    assert found == expected


def test_each_name_is_there_or_says_what_is_instead(
    told: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    real, ours = told
    assert set(real["names"]) - set(ours["names"]) <= set(ATTRIBUTES)
    # What this one has in addition is what other builds of uWSGI have.
    others = {"i_am_the_lord", "add_ms_timer", "route"}
    assert set(ours["names"]) - set(real["names"]) <= others
    assert set(FUNCTIONS) - others <= set(real["names"])


def test_each_decorator_is_there(told: tuple[dict[str, Any], dict[str, Any]]) -> None:
    real, ours = told
    inner = {
        *("Thread", "partial", "farm_loop", "manage_spool_request", "mule_brain", "mule_brainloop"),
        *("mule_msg_dispatcher", "mulemsg_loop"),
    }
    assert set(real["decorators"]) - set(ours["decorators"]) <= inner
