"""Configurations of gunicorn as people write them, each with what it needs and what it has to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A ``gunicorn.conf.py``.

    Attributes:
        text: of the file.
        arguments: of the command line, beside the application.
        app: the application; None where the file names it.
        environment: further variables.
        paths: what is asked.
        logged: what the log has to have, each as a part of a line; in real gunicorn's as well.
        is_uwsgi: whether gunicorn's worker speaks the uwsgi protocol, so that its answers can be compared.
        awaited: an event of the log that has to come before the end.
        options: parts of the options that it becomes.
    """

    text: str
    arguments: tuple[str, ...] = ()
    app: str | None = "site_app:app"
    environment: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ("/",)
    logged: tuple[str, ...] = ()
    is_uwsgi: bool = True
    awaited: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


# The application of all configurations. It answers with what a configuration can change.
APPLICATION = """
import json
import logging
import os
import sys

logging.getLogger("site").info("the application is imported")
STATE = {"hooks": []}


def app(environ, start_response):
    told = {name: environ[name] for name in (
        "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "wsgi.url_scheme", "SERVER_PROTOCOL",
    ) if name in environ}
    told["mode"] = os.environ.get("SITE_MODE")
    told["hooks"] = STATE["hooks"]
    told["directory"] = os.getcwd()
    told["extra"] = "extra_module" in sys.modules
    body = json.dumps(told, sort_keys=True).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


application = app


def create_app():
    return app


async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    body = json.dumps([scope["path"], scope["scheme"], os.environ.get("SITE_MODE")]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
    ]})
    await send({"type": "http.response.body", "body": body})
"""

CONFIGURATIONS: Mapping[str, Configuration] = {
    "plain": Configuration(
        text="""
import multiprocessing

bind = "0.0.0.0:8000"
workers = multiprocessing.cpu_count() * 2 + 1
timeout = 120
loglevel = "info"
accesslog = "-"
errorlog = "-"
""",
        paths=("/", "/a%20b?x=1&y=%C3%A9"),
        options=(
            "--threads 1",
            "--request-timeout-seconds 120",
            "--access-log",
            "--log-level info",
        ),
    ),
    "container": Configuration(
        text="""
import os

bind = "0.0.0.0:" + os.getenv("PORT", "8080")
workers = int(os.getenv("GUNICORN_WORKERS", "2"))
threads = int(os.getenv("GUNICORN_THREADS", "4"))
worker_class = "gthread"
worker_tmp_dir = "/dev/shm"
timeout = int(os.getenv("GUNICORN_TIMEOUT", "0"))
graceful_timeout = 20
keepalive = 5
forwarded_allow_ips = "*"
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
""",
        environment={"GUNICORN_THREADS": "3"},
        options=(
            "--workers 2",
            "--threads 3",
            "--heartbeat-timeout-seconds 0",
            "--graceful-timeout-seconds 20",
        ),
    ),
    "recycling": Configuration(
        text="""
# Workers leak a little.
max_requests = 1000
max_requests_jitter = 50
workers = 2
worker_connections = 1000
worker_class = "sync"
backlog = 512
limit_request_line = 8190
limit_request_fields = 200
limit_request_field_size = 16380
proc_name = "site"
""",
        options=(
            "--max-requests 1000",
            "--max-requests-jitter 50",
            "--backlog 512",
            "--title site",
        ),
    ),
    "preloaded": Configuration(
        text="""
preload_app = True
workers = 2


def on_fork_of(server, worker):
    import site_app

    site_app.STATE["hooks"].append("post_fork")
    server.log.info("Worker spawned (pid: %s)", worker.pid)


post_fork = on_fork_of


def post_worker_init(worker):
    import site_app

    site_app.STATE["hooks"].append("post_worker_init")


def worker_exit(server, worker):
    server.log.info("Worker exit (pid: %s)", worker.pid)
""",
        logged=("Worker spawned (pid: ", "Worker exit (pid: "),
        options=("--preload", "--on-fork ", "--on-worker-exit "),
    ),
    "hooks": Configuration(
        text="""
import os
import sys
import threading
import traceback

workers = 1


def pre_fork(server, worker):
    server.log.info("about to fork")


def post_fork(server, worker):
    # Before the application is imported: it reads this variable.
    os.environ["SITE_MODE"] = "of post_fork"
    worker.log.info("forked as %s, level %s", type(worker.age).__name__, worker.cfg.loglevel)


def worker_int(worker):
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        worker.log.debug("%s\\n%s", names.get(ident), "".join(traceback.format_stack(frame)))


def worker_abort(worker):
    worker.log.info("worker received SIGABRT signal")


def child_exit(server, worker):
    server.log.info("child %s has left", type(worker.pid).__name__)
""",
        logged=("about to fork", "forked as int, level info", "child int has left"),
    ),
    "loggers": Configuration(
        text="""
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"site": {"format": "SITE %(name)s %(levelname)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "site", "stream": "ext://sys.stderr"}},
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {"gunicorn.error": {"level": "INFO", "handlers": ["console"], "propagate": False}},
}


def post_worker_init(worker):
    worker.log.warning("the worker is there")
""",
        logged=(
            "SITE site INFO the application is imported",
            "SITE gunicorn.error WARNING the worker is there",
        ),
        options=("--access-log",),
    ),
    "computed": Configuration(
        text="""
import json
import multiprocessing
import os

workers_per_core = float(os.getenv("WORKERS_PER_CORE", "1"))
cores = multiprocessing.cpu_count()
web_concurrency = max(int(workers_per_core * cores), 2)
use_loglevel = os.getenv("LOG_LEVEL", "info")
accesslog_var = os.getenv("ACCESS_LOG", "-")
use_accesslog = accesslog_var or None

loglevel = use_loglevel
workers = web_concurrency
accesslog = use_accesslog
graceful_timeout = int(os.getenv("GRACEFUL_TIMEOUT", "120"))
os.environ.setdefault("SITE_MODE", "computed")

print(json.dumps({"workers": workers, "loglevel": loglevel}))
""",
        environment={"LOG_LEVEL": "warning", "ACCESS_LOG": ""},
        options=("--log-level warning", "--graceful-timeout-seconds 120"),
    ),
    "below a path": Configuration(
        text="""
import os

os.environ["SCRIPT_NAME"] = "/site"
workers = 1
""",
        paths=("/site", "/site/", "/site/one/two?x"),
        options=("--mount /site=site_app:app",),
    ),
    "application in the file": Configuration(
        text="""
wsgi_app = "site_app:create_app()"
pidfile = "site.pid"
umask = 0o007
daemon = False
user = None
group = None
capture_output = True
enable_stdio_inheritance = True
reload = False
worker_class = "gunicorn.workers.sync.SyncWorker"
""",
        app=None,
        options=("--socket-mode 0770", "--threads 1"),
    ),
    "from the command line": Configuration(
        text="""
workers = 7
threads = 2
timeout = 600
loglevel = "debug"
""",
        arguments=("-w", "1", "--threads=2", "-t", "45", "--log-level", "error"),
        app="site_app",
        options=(
            "--workers 1",
            "--threads 2",
            "--heartbeat-timeout-seconds 45",
            "--log-level error",
        ),
    ),
    "surroundings": Configuration(
        text="""
chdir = "inner"
pythonpath = "more"
raw_env = ["SITE_MODE=of raw_env", "OTHER=1"]
workers = 1


def post_worker_init(worker):
    import extra_module
""",
        app="site_app:app",
        options=("--chdir ", "--python-path ", "--env 'SITE_MODE=of raw_env'"),
    ),
    "once": Configuration(
        text="""
import pathlib

HERE = pathlib.Path(__file__).parent
workers = 1


def on_starting(server):
    server.log.info("cleaning up")
    (HERE / "starting").write_text("done")


def when_ready(server):
    server.log.info("ready to serve")
    (HERE / "ready").touch()
""",
        logged=("cleaning up", "ready to serve"),
        awaited={"event": "command has ended", "option": "--on-ready"},
        options=("--on-start ", "--on-ready "),
    ),
    "for uvicorn": Configuration(
        text="""
import os

bind = os.getenv("BIND", "0.0.0.0:80")
workers = int(os.getenv("WEB_CONCURRENCY", "2"))
worker_class = "uvicorn.workers.UvicornWorker"
keepalive = 120
timeout = 120
forwarded_allow_ips = "*"
accesslog = "-"


def post_fork(server, worker):
    server.log.info("the worker is %s", worker)
""",
        app="site_app:asgi",
        paths=("/", "/a/b"),
        is_uwsgi=False,
        logged=("the worker is <Worker ",),
        options=("--interface asgi", "--heartbeat-timeout-seconds 120"),
    ),
    "for ASGI": Configuration(
        text="""
worker_class = "asgi"
workers = 1
asgi_loop = "asyncio"
asgi_lifespan = "off"
timeout = 60
""",
        app="site_app:asgi",
        paths=("/", "/a/b"),
        options=(
            "--interface asgi",
            "--loop asyncio",
            "--lifespan off",
            "--heartbeat-timeout-seconds 60",
        ),
    ),
}
