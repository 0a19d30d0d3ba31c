"""A server under test is started by the table's options alone, whatever the environment says."""

from __future__ import annotations

from benchmarks.launching import server_environment


def test_variables_that_would_change_a_server_are_dropped_and_all_others_kept() -> None:
    environ = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "WEB_CONCURRENCY": "4",
        "UWSGI_PROCESSES": "4",
        "GUNICORN_CMD_ARGS": "--workers 4",
        "UVICORN_WORKERS": "4",
        "UWSGIBRIDGE_WORKERS": "4",
        "GRANIAN_WORKERS": "4",
        "UWSGIBRIDGE_PURE": "1",
    }
    assert server_environment(environ) == {
        "PATH": "/bin",
        "HOME": "/home/me",
        "UWSGIBRIDGE_PURE": "1",
    }
