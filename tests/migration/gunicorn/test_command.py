"""``uwsgibridge run-gunicorn`` from outside: what it prints, refuses, starts and reloads."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.bridge_process import run_to_its_end, running_process
from tests.log_events import EVENT_SECONDS
from tests.migration.gunicorn.configurations import APPLICATION
from tests.migration.gunicorn.test_run import listening_at
from uwsgibridge.cli import reading_apart
from uwsgibridge.cli.reading_apart import ReadingApart
from uwsgibridge.client import request
from uwsgibridge.migration.errors import ConfigurationError


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    return tmp_path


def run(site: Path, text: str, *arguments: str, **environment: str) -> tuple[int, str]:
    (site / "gunicorn.conf.py").write_text(text)
    return run_to_its_end(
        "run-gunicorn", "site_app:app", *arguments, directory=site, environment=environment
    )


def test_refusals_are_told_at_once_and_nothing_is_started(site: Path) -> None:
    status, text = run(site, "bind = 'unix:a.sock'\nworker_class = 'gevent'\ncertfile = 'a'\n")
    assert status == 2
    assert "2 lines stand in the way, and nothing was started:" in text
    assert "  gunicorn.conf.py:2: worker_class = gevent: There are no green threads here." in text
    assert "  gunicorn.conf.py:3: certfile = a: Nginx speaks TLS to clients" in text
    assert "To start without: --ignore worker-class --ignore certfile" in text
    assert not (site / "a.sock").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("workers = 1\nbind = hots\n", "Error: gunicorn.conf.py:2: its code fails: NameError: name 'hots' is not defined"),
        ("import os\nos._exit(0)\n", "Error: the configuration file of gunicorn has ended its process"),
        ("import sys\nsys.exit('no')\n", "Error: gunicorn.conf.py:2: it ends the process (sys.exit)"),
        ("workers = 2.5\n", "Error: gunicorn.conf.py:1: workers = 2.5: gunicorn does not start with this"),
        ("bind = ':99999'\n", "  gunicorn.conf.py:1: bind = :99999: --bind: ':99999': a port is at most 65535"),
        ("user = 'nobody-of-this-name'\nbind = 'unix:a'\n", "nobody-of-this-name"),
    ],
)  # fmt: skip
def test_file_that_can_not_be_used_is_told_in_a_sentence(text: str, told: str, site: Path) -> None:
    status, printed = run(site, text)
    assert status in {1, 2}
    assert told in printed
    assert "uwsgibridge/" not in printed


def test_traceback_of_the_file_is_shown(site: Path) -> None:
    _, printed = run(site, "def count():\n    return int('x')\n\n\nworkers = count()\n")
    assert 'gunicorn.conf.py", line 5, in <module>' in printed
    assert "ValueError: invalid literal for int()" in printed


def test_arguments_that_can_not_be_used_are_told(site: Path) -> None:
    for arguments, told in (
        (("--wrokers", "4"), "the command line: unrecognized arguments: --wrokers 4"),
        (("-c", "absent.py"), "absent.py: there is no such file; -c names it"),
    ):
        status, printed = run(site, "", *arguments)
        assert (status, printed.splitlines()[-1]) == (2, f"Error: {told}")


def test_file_that_takes_too_long_is_told(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "gunicorn.conf.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(reading_apart, "READING_SECONDS", 0.2)
    started = time.monotonic()
    with pytest.raises(ConfigurationError, match="took more than"):
        ReadingApart(("site_app:app",), str(site)).wait()
    assert time.monotonic() - started < EVENT_SECONDS


def test_file_that_leaves_a_process_behind_is_read(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site / "gunicorn.conf.py").write_text(
        "import os, time\nworkers = 3\nif os.fork() == 0:\n"
        "    while not os.path.exists('end'):\n        time.sleep(0.01)\n    os._exit(0)\n"
    )
    monkeypatch.chdir(site)
    try:
        assert ReadingApart(("site_app:app",), str(site)).wait().value("workers") == 3
    finally:
        (site / "end").touch()


def test_nothing_of_the_file_is_in_this_process(site: Path) -> None:
    (site / "gunicorn.conf.py").write_text(
        "import os, sys, threading\nos.environ['SITE_LEFT'] = '1'\nsys.path.insert(0, '/left')\n"
        "sys.modules['site_left'] = os\n"
    )
    reading = ReadingApart((), str(site)).wait()
    assert reading.environment == {"SITE_LEFT": "1"}
    assert "SITE_LEFT" not in os.environ
    assert "/left" not in sys.path
    assert "site_left" not in sys.modules


def test_explanation_is_for_people_who_know_gunicorn(site: Path) -> None:
    text = "bind = '0.0.0.0:8000'\nworkers = 3\ntimeout = 60\nkeepalive = 5\npreload = True\n"
    status, printed = run(site, text, "--explain")
    assert status == 0
    collapsed = " ".join(printed.split())
    for part in (
        "gunicorn.conf.py:2 workers = 3 -> --workers 3",
        "gunicorn.conf.py:3 timeout = 60 -> --request-timeout-seconds 60",
        "gunicorn.conf.py:4 keepalive = 5 ok Nginx keeps connections with clients",
        "gunicorn.conf.py:5 preload = True !! gunicorn has no setting of this name",
        "did you mean preload_app?",
        "gunicorn's default threads = 1 -> --threads 1",
        "uwsgibridge serve site_app:app \\ --bind 0.0.0.0:8000",
        "request_timeout_seconds = 60",
        "uwsgi_pass 127.0.0.1:8000; }",
    ):
        assert part in collapsed, printed


def test_command_that_is_explained_does_the_same(site: Path) -> None:
    text = (
        "import os\nworkers = 1\nos.environ['SITE_MODE'] = 'of the file'\n"
        "def post_worker_init(worker):\n    import site_app\n    site_app.STATE['hooks'].append('init')\n"
    )
    with listening_at(site / "a.sock") as listening:
        bind = f"fd://{listening.fileno()}"
        status, printed = run(site, text, "-b", bind, "--explain")
        assert status == 0
        command = printed.partition("The same as a command:\n")[2].partition("\nThe same as uwsgi")[
            0
        ]
        words = shlex.split(command.replace("\\\n", " "))
        assert words[0] == "env"
        start = words.index("uwsgibridge")
        environment = dict(it.split("=", 1) for it in words[1:start])
        with running_process(
            *words[start + 1 :],
            directory=site,
            environment=environment,
            pass_fds=[listening.fileno()],
        ) as process:
            body = request(f"unix:{site}/a.sock", "/").body
            assert process.stop() == 0
    assert b'"mode": "of the file"' in body
    assert b'"hooks": ["init"]' in body


def test_warnings_are_printed_with_their_lines(site: Path) -> None:
    (site / "gunicorn.conf.py").write_text("workers = 1\nstatsd_host = 'localhost:8125'\n")
    with running_process(
        "run-gunicorn", "site_app:app", "-b", f"unix:{site}/a.sock", directory=site
    ) as process:
        process.events.wait(event="listening")
        assert process.stop() == 0
    text = process.events.text()
    assert (
        "Warning: gunicorn.conf.py:2: statsd_host = localhost:8125: Figures have names of their own"
        in text
    )
    assert "Warning: the command line: bind = unix:" in text
    assert "gunicorn speaks HTTP there" in text


def test_hooks_are_read_anew_at_a_reload(site: Path) -> None:
    text = "workers = 1\ndef post_fork(server, worker):\n    server.log.info('hooks of the {} file, {}', server.pid)\n"
    text = text.replace("{}', server", "%s', server")
    conf = site / "gunicorn.conf.py"
    conf.write_text(text.replace("{}", "first"))
    with running_process(
        "run-gunicorn", "site_app:app", "-b", f"unix:{site}/a.sock", directory=site
    ) as process:
        process.events.wait(event="listening")
        assert f"hooks of the first file, {process.pid}" in process.events.text()
        conf.write_text(text.replace("{}", "second"))
        process.signal(signal.SIGHUP)
        process.events.wait(event="reloaded")
        assert f"hooks of the second file, {process.pid}" in process.events.text()
        assert process.stop() == 0


def test_sockets_of_systemd_are_taken(site: Path) -> None:
    code = (
        "import os, sys\nos.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
        "os.dup2(int(sys.argv[1]), 3)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'uwsgibridge', 'run-gunicorn', 'site_app:app'])\n"
    )
    with (
        listening_at(site / "a.sock") as listening,
        running_process(
            str(listening.fileno()),
            directory=site,
            pass_fds=[listening.fileno()],
            program=["-c", code],
        ) as process,
    ):
        assert request(f"unix:{site}/a.sock", "/").status == 200
        assert process.stop() == 0


def test_name_of_the_other_program_leads_to_the_command(site: Path) -> None:
    status, printed = run_to_its_end("gunicorn", "site_app:app", directory=site)
    assert status == 2
    assert "did you mean run-gunicorn?" in printed
