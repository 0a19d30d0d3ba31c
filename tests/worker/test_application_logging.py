"""What frameworks tell the standard library's logging, in processes of the server: each of it once, and as an event."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.bridge_process import running_process
from tests.gil import has_pydantic
from tests.log_events import LogEvents
from uwsgibridge.client import request

FRAMEWORKS = """
import asyncio, logging, sys, traceback

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import path as route
from fastapi import FastAPI
from flask import Flask

log = logging.getLogger("shop.views")

def raise_error(*arguments):
    raise ValueError("of a view")

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
urlpatterns = [route("fails", raise_error)]
django_app = get_wsgi_application()

flask_app = Flask("flask_app")
flask_app.add_url_rule("/fails", view_func=raise_error)

@flask_app.get("/")
def of_flask():
    flask_app.logger.warning("told by Flask")
    logging.error("told by a function of logging")
    traceback.print_stack(file=sys.stderr, limit=1)
    return ""

fastapi_app = FastAPI()

@fastapi_app.get("/")
async def of_fastapi():
    logging.getLogger("uvicorn.error").info("told as to uvicorn")
    async def fail():
        raise ValueError("of a task")
    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    return {}

@fastapi_app.get("/basic")
def basic():
    log.info("not told")
    logging.basicConfig(format="OWN %(message)s")
    log.warning("told by its own")
    return {}
"""

PLAIN = """
import logging
log = logging.getLogger("shop.views")

def wsgi(environ, start_response):
    log.info("told")
    handler = logging.StreamHandler(environ["wsgi.errors"])
    handler.handle(log.makeRecord("shop.errors", logging.WARNING, "", 0, "told to wsgi.errors", (), None))
    start_response("200 OK", [])
    return []
"""

SERVE = ("serve", "--bind", "127.0.0.1:0", "--log-format", "json", "--control-socket", "none")


def told_once(events: LogEvents, text: str) -> None:
    assert events.text().count(text) == 1, events.text()


@has_pydantic
def test_what_frameworks_tell_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "apps.py").write_text(FRAMEWORKS)
    with running_process(
        *SERVE, "apps:flask_app", "--mount", "/django=apps:django_app", "--mount", "/fastapi=apps:fastapi_app",
        "--workers", "1", "--preload", "--loop", "asyncio",
        directory=tmp_path,
    ) as process:  # fmt: skip
        address = process.address
        for path in ("/", "/fails", "/django/fails?token=secret", "/fastapi/", "/fastapi/basic"):
            request(address, path)
        process.events.wait(event="told by a function of logging", level="error")
        assert process.stop() == 0
        events = process.events
    (of_flask,) = events.find(event="told by Flask", level="warning")
    assert of_flask["logger"] == "flask_app"
    assert "worker" in of_flask
    (failed,) = events.find(event="Exception on /fails [GET]", level="error")
    assert "ValueError: of a view" in failed["exception"]
    # By Django's default configuration, it mails this in production, and writes it nowhere.
    (failed,) = events.find(event="Internal Server Error: /django/fails", level="error")
    assert "ValueError: of a view" in failed["exception"]
    (of_task,) = events.find(logger="asyncio", level="error")
    assert of_task["event"].startswith("Task exception was never retrieved")
    assert of_task["exception"].endswith("ValueError: of a task")
    assert events.find(event="told as to uvicorn", level="info", logger="uvicorn.error")
    assert "OWN told by its own" in events.other_text()
    for text in ("told by Flask", "told by a function of logging", "told by its own"):
        told_once(events, text)
    assert "not told" not in events.text()
    # Django gives the request to its records, whose text has the query.
    assert "secret" not in events.text()


def test_a_record_at_wsgi_errors_has_its_level(tmp_path: Path) -> None:
    (tmp_path / "apps.py").write_text(PLAIN)
    with running_process(*SERVE, "apps:wsgi", directory=tmp_path) as process:
        request(process.address, "/")
        event = process.events.wait(event="application wrote to wsgi.errors")
        assert process.stop() == 0
    assert (event["level"], event["logger"], event["line"]) == (
        "warning", "shop.errors", "told to wsgi.errors",
    )  # fmt: skip


def configuration(level: str) -> str:
    return f"""
[formatters]
own = {{format = "OWN %(name)s %(message)s"}}
access = {{format = "ACCESS %(status)s %(path)s"}}
[handlers]
own = {{class = "logging.StreamHandler", formatter = "own"}}
access = {{class = "logging.StreamHandler", formatter = "access"}}
[root]
level = "{level}"
handlers = ["own"]
[loggers.uwsgibridge]
handlers = ["own"]
propagate = false
level = "INFO"
[loggers."uwsgibridge.access"]
handlers = ["access"]
propagate = false
"""


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    (tmp_path / "apps.py").write_text(PLAIN)
    (tmp_path / "log.toml").write_text(configuration("INFO"))
    return tmp_path


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["loaded in the worker", "preloaded"])
def test_a_file_configures_loggers_of_all_and_is_read_again_at_a_reload(
    configured: Path, preload: list[str]
) -> None:
    file = configured / "log.toml"
    with running_process(
        *SERVE, "apps:wsgi", "--workers", "1", "--log-config", str(file), *preload,
        directory=configured,
    ) as process:  # fmt: skip
        address = process.address
        request(address, "/one")
        # The new loggers let less through.
        file.write_text(configuration("ERROR"))
        process.signal(signal.SIGHUP)
        process.events.wait(event="generation has ended")
        request(address, "/two")
        # A file that is wrong changes nothing.
        file.write_text("[root]\nhandlers = ['none']\n")
        process.signal(signal.SIGHUP)
        process.events.wait(event="reload failed: the old code goes on")
        assert request(address, "/three").status == 200
        assert process.stop() == 0
        text = process.events.other_text()
    assert text.count("OWN shop.views told") == 1
    assert "OWN uwsgibridge worker started" in text
    assert "OWN uwsgibridge application wrote to wsgi.errors" in text
    assert [it for it in text.splitlines() if it.startswith("ACCESS")] == [
        f"ACCESS 200 /{it}" for it in ("one", "two", "three")
    ]
    assert (
        f"Error: --log-config {file}: Unable to configure root logger: Unable to add handler 'none'"
        in text
    )


def test_a_wrong_file_ends_the_start(configured: Path) -> None:
    (configured / "log.json").write_text(json.dumps({"root": {"handlers": ["none"]}}))
    with running_process(
        *SERVE, "apps:wsgi", "--workers", "1", "--log-config", "log.json", directory=configured
    ) as process:
        assert process.wait() == 2
    assert "Error: --log-config log.json: Unable to configure root logger" in process.events.text()
    assert "Traceback" not in process.events.text()
