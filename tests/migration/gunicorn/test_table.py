"""What each setting of gunicorn becomes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.migration.gunicorn.conftest import MakePlan
from uwsgibridge.migration import report
from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.gunicorn.known_settings import SETTINGS
from uwsgibridge.migration.gunicorn.table import ROW_OF, ROWS
from uwsgibridge.migration.plan import Plan, Verdict

pytestmark = pytest.mark.usefixtures("all_options")

ON_FORK = "uwsgibridge.migration.gunicorn.hooks:on_fork"
ON_WORKER_EXIT = "uwsgibridge.migration.gunicorn.hooks:on_worker_exit"


def verdicts(plan: Plan, name: str) -> list[Verdict]:
    return [it.verdict for it in plan.findings if it.setting.name == name]


def texts(plan: Plan, name: str) -> str:
    return " ".join(it.text for it in plan.findings if it.setting.name == name)


def test_each_setting_has_one_row() -> None:
    assert sorted(ROW_OF) == sorted(SETTINGS)
    assert len(ROWS) == len(ROW_OF)


@pytest.mark.parametrize("name", SETTINGS)
def test_each_row_says_in_a_sentence_what_becomes_of_its_setting(name: str) -> None:
    row = ROW_OF[name]
    assert row.text
    if row.verdict is not Verdict.MAPPED:
        assert row.text[0].isupper() or row.text.startswith(("uwsgibridge", "--"))
        assert row.text.endswith(".")


def test_defaults_are_gunicorns(plan: MakePlan) -> None:
    made = plan()
    assert made.app == "site:app"
    assert made.values == {
        "bind": ("127.0.0.1:8000",),
        "workers": 1,
        "threads": 1,
        "request_timeout_seconds": 30.0,
        "on_load": "uwsgibridge.migration.gunicorn.loggers:on_load",
    }
    assert made.environment == {}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("bind = '0.0.0.0:80'", {"bind": ("0.0.0.0:80",)}),
        ("bind = ['a:1', '[::1]:2']", {"bind": ("a:1", "[::1]:2")}),
        ("bind = 'localhost'", {"bind": ("localhost:8000",)}),
        ("bind = ':9000'", {"bind": (":9000",)}),
        ("bind = '[::]'", {"bind": ("[::]:8000",)}),
        ("bind = 'tcp://10.0.0.1:80'", {"bind": ("10.0.0.1:80",)}),
        ("bind = 'fd://3'", {"bind": ("fd://3",)}),
        ("bind = 'unix:///run/a.sock'", {"bind": ("unix:/run/a.sock",), "socket_mode": "0777"}),
        ("bind = 'unix:/run/a.sock'\numask = 0o007", {"socket_mode": "0770"}),
        ("syslog = True", {"log_to": ("stderr", "syslog:localhost:514"), "log_identifier": "gunicorn", "syslog_facility": "user", "access_log": True}),
        ("syslog = True\nsyslog_addr = 'unix:///dev/log#dgram'\nsyslog_prefix = 'shop'\nsyslog_facility = 'LOCAL3'", {"log_to": ("stderr", "syslog:/dev/log"), "log_identifier": "gunicorn.shop", "syslog_facility": "local3"}),
        ("protocol = 'uwsgi'\nbind = '0.0.0.0:80'\nuwsgi_allow_ips = '10.0.0.1,fd00::1'", {"allow_from": ("10.0.0.1", "fd00::1")}),
        ("protocol = 'uwsgi'\nbind = '0.0.0.0:80'", {"allow_from": ("127.0.0.1", "::1")}),
        ("protocol = 'uwsgi'\nbind = '0.0.0.0:80'\nuwsgi_allow_ips = '*'", {"bind": ("0.0.0.0:80",), "allow_from": None}),
        ("backlog = 64", {"backlog": 64}),
        ("backlog = 0", {"backlog": 1}),
        ("workers = 3", {"workers": 3}),
        ("threads = 4", {"threads": 4, "heartbeat_timeout_seconds": 30.0}),
        ("worker_class = 'gthread'\nthreads = 4\ntimeout = 9", {"threads": 4, "heartbeat_timeout_seconds": 9.0}),
        ("worker_class = 'gthread'", {"threads": 1, "heartbeat_timeout_seconds": 30.0}),
        ("worker_class = 'sync'\ntimeout = 0", {"threads": 1, "request_timeout_seconds": 0.0}),
        ("worker_class = 'egg:gunicorn#sync'", {"threads": 1, "request_timeout_seconds": 30.0}),
        ("worker_class = 'uvicorn.workers.UvicornWorker'", {"interface": "asgi", "heartbeat_timeout_seconds": 30.0}),
        ("worker_class = 'uvicorn_worker.UvicornWorker'", {"interface": "asgi"}),
        ("worker_class = 'uvicorn.workers.UvicornH11Worker'", {"interface": "asgi"}),
        ("worker_class = 'site.workers.OwnUvicornWorker'", {"interface": "asgi"}),
        ("worker_class = 'asgi'\nasgi_loop = 'uvloop'\nasgi_lifespan = 'on'\nworker_connections = 50",
         {"interface": "asgi", "loop": "uvloop", "lifespan": "on", "max_concurrency": 50}),
        ("worker_class = 'asgi'\nwebsocket_max_message_size = 9", {"websocket_max_message_bytes": 9}),
        ("graceful_timeout = 5", {"graceful_timeout_seconds": 5.0}),
        ("max_requests = 10\nmax_requests_jitter = 2", {"max_requests": 10, "max_requests_jitter": 2}),
        ("preload_app = True", {"preload": True}),
        ("reload = True\nreload_extra_files = ['gunicorn.conf.py', 'templates/**/*.html']",
         {"reload": True, "reload_include": ("*.html",)}),
        ("proc_name = 'site'", {"title": "site"}),
        ("user = 'www-data'\ngroup = 33", {"user": "www-data", "group": "33"}),
        ("accesslog = '-'", {"access_log": True, "access_log_format": "combined"}),
        ("accesslog = '/dev/stdout'", {"access_log": True}),
        ("accesslog = '/log/a'", {"access_log": True, "access_log_file": "/log/a"}),
        ("accesslog = '-'\naccess_log_format = '%(h)s'", {"access_log": True, "access_log_format": "%(h)s"}),
        ("errorlog = '/log/e'", {"log_file": "/log/e"}),
        ("loglevel = 'CRITICAL'", {"log_level": "error"}),
        ("logconfig_dict = {'version': 1}", {"access_log": True}),
        ("raw_env = ['A=1', 'B=x=y']", {"env": ("A=1", "B=x=y")}),
        ("def post_worker_init(worker): pass", {"on_fork": ON_FORK}),
        ("preload_app = True\ndef post_fork(server, worker): pass", {"on_fork": ON_FORK}),
        ("def worker_exit(server, worker): pass", {"on_worker_exit": ON_WORKER_EXIT}),
        ("def child_exit(server, worker): pass", {"on_worker_exit": ON_WORKER_EXIT}),
        ("statsd_host = 'localhost'", {"statsd_host": "localhost:8125"}),
        ("statsd_host = '[::1]:9'", {"statsd_host": "[::1]:9"}),
        ("statsd_host = '[::1]'", {"statsd_host": "[::1]:8125"}),
        ("statsd_host = 'unix:///run/statsd'", {"statsd_host": "unix:/run/statsd"}),
        ("statsd_prefix = 'shop.'", {"statsd_prefix": "shop"}),
        ("dogstatsd_tags = 'a:b, c:d,'", {"statsd_tags": "a:b,c:d"}),
        ("import sys\nsys.path.insert(0, '/srv/more')", {"python_path": ("/srv/more",)}),
    ],
)  # fmt: skip
def test_setting_becomes_options(text: str, values: dict[str, Any], plan: MakePlan) -> None:
    made = plan(text=text + "\n")
    assert {name: made.values.get(name) for name in values} == values
    assert not made.of(Verdict.REFUSED)


@pytest.mark.parametrize(
    "text",
    [
        "accesslog = None\nerrorlog = '-'",
        "reload = False\nreload_extra_files = ['a']\nspew = False",
        "daemon = False\npreload_app = False",
        "certfile = None\nkeyfile = ''",
        "pidfile = None\nproc_name = None\nuser = None",
        "statsd_host = None\nstatsd_prefix = ''\ndogstatsd_tags = ''\nsyslog = False",
        "proxy_protocol = False\nproxy_allow_ips = '*'",
        "uwsgi_allow_ips = '10.0.0.1'",
        "umask = 0",
        "secure_scheme_headers = {'X-FORWARDED-PROTOCOL': 'ssl', 'X-FORWARDED-PROTO': 'https', 'X-FORWARDED-SSL': 'on'}",
        "keepalive = 5\nworker_tmp_dir = '/dev/shm'\nworker_connections = 1000",
        "forwarded_allow_ips = '*'\nreuse_port = True\nsendfile = False",
        "dirty_apps = []\ndirty_workers = 0",
        "paste = None\nraw_env = []\nlogconfig_dict = {}",
        "chdir = '.'",
        "capture_output = True",
        "wsgi_app = 'other:app'",
    ],
)  # fmt: skip
def test_what_is_off_or_needs_nothing_changes_nothing(text: str, plan: MakePlan) -> None:
    made = plan(text=text + "\n")
    assert made.values == plan(text="").values
    assert {it.setting.name for it in made.findings if it.verdict is Verdict.WARNED} == {"bind"}


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("worker_class = 'gevent'", "worker_class", "--ignore worker-class"),
        ("worker_class = 'eventlet'", "worker_class", "no green threads"),
        ("worker_class = 'egg:meinheld#gunicorn_worker'", "worker_class", "no green threads"),
        ("worker_class = 'tornado'", "worker_class", "an interface of their own"),
        ("worker_class = 'aiohttp.GunicornWebWorker'", "worker_class", "an interface of their own"),
        ("worker_class = 'site.workers.Own'", "worker_class", "does not know"),
        ("class Own: pass\nworker_class = Own", "worker_class", "does not know"),
        ("workers = 0", "workers", "write 1 or more"),
        ("bind = []", "bind", "name an address"),
        ("protocol = 'fastcgi'", "protocol", "uwsgi_pass"),
        ("certfile = 'a.pem'", "certfile", "ssl_certificate"),
        ("paste = 'a.ini'", "paste", "paste.deploy.loadapp"),
        ("raw_env = ['A']", "raw_env", "NAME=VALUE"),
        ("root_path = '/x'", "root_path", "--mount /path=APP"),
        ("dirty_apps = ['a:B']", "dirty_apps", "--sidecar"),
        ("check_config = True", "check_config", "--explain"),
        ("def pre_request(worker, req): pass", "pre_request", "a middleware"),
        ("def post_request(worker, req): pass", "post_request", "a middleware"),
    ],
)
def test_what_can_not_run_is_refused_with_what_to_do_instead(
    text: str, name: str, told: str, plan: MakePlan
) -> None:
    made = plan(text=text + "\n")
    assert verdicts(made, name) == [Verdict.REFUSED]
    assert told in report.describe_refusals(made)


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("bind = '0.0.0.0:80'", "bind", "uwsgi_pass 127.0.0.1:80; in place of proxy_pass"),
        ("bind = 'unix:/run/a'", "bind", "uwsgi_pass unix:/run/a; in place of proxy_pass"),
        ("daemon = True", "daemon", "stays in the foreground"),
        ("proxy_protocol = True", "proxy_protocol", "real_ip_header proxy_protocol"),
        ("secure_scheme_headers = {'X-A': 'b'}", "secure_scheme_headers", "uwsgi_param HTTPS"),
        ("statsd_host = 'a:1'", "statsd_host", "names of their own"),
        ("statsd_host = 'a:x'", "statsd_host", "It is left out: --statsd-host"),
        ("statsd_prefix = 'a|b'", "statsd_prefix", "It is left out: --statsd-prefix"),
        ("dogstatsd_tags = 'a|b'", "dogstatsd_tags", "It is left out: --statsd-tags"),
        ("syslog = True\nsyslog_addr = 'tcp://logs:514'", "syslog", "over TCP"),
        ("syslog = True\nsyslog_facility = 'kern'", "syslog", "facility user"),
        ("syslog = True\nsyslog_prefix = 'a b'", "syslog", "gunicorn alone"),
        ("loglevel = 'verbose'", "loglevel", "takes info"),
        ("logger_class = 'site.Log'", "logger_class", "--log-format"),
        ("errorlog = 'a.log'\ncapture_output = True", "capture_output", "standard output"),
        ("worker_class = 'a.OwnUvicornWorker'", "worker_class", "CONFIG_KWARGS"),
        ("def on_exit(server): pass", "on_exit", "Nothing calls it"),
        ("def nworkers_changed(server, new, old): pass", "nworkers_changed", "Nothing calls it"),
        ("def pre_fork(server, worker): pass", "pre_fork", "not the supervisor"),
        ("def when_ready(server): pass", "when_ready", "A process of its own"),
        ("worker = 4", "worker", "did you mean workers?"),
        ("worker_clas = 'x'", "worker_clas", "did you mean worker_class?"),
        ("access_logfile = '-'", "access_logfile", "did you mean accesslog?"),
        ("Timeout = 3", "Timeout", "did you mean timeout?"),
        ("preload = True", "preload", "did you mean preload_app?"),
    ],
)
def test_what_is_different_is_warned_of(text: str, name: str, told: str, plan: MakePlan) -> None:
    made = plan(text=text + "\n")
    assert Verdict.WARNED in verdicts(made, name)
    assert told in texts(made, name)


@pytest.mark.parametrize(
    ("written", "formed", "told"),
    [
        ("%(h)s %(foo)s %(s)s", "%(h)s - %(s)s", "There is no %(foo)s, and a dash stands in its place"),
        ("%(h) - %(t)s", "combined", "the variable %(h) is gunicorn's, which has an s behind it"),
        ("100", "combined", "has no variable"),
    ],
)  # fmt: skip
def test_format_that_is_none_here_is_warned_of(
    written: str, formed: str, told: str, plan: MakePlan
) -> None:
    made = plan(text=f"accesslog = '-'\naccess_log_format = {written!r}\n")
    assert made.values["access_log_format"] == formed
    assert told in texts(made, "access_log_format")
    assert Verdict.WARNED in verdicts(made, "access_log_format")


def test_nginx_stays_as_it_is_where_gunicorn_speaks_uwsgi(plan: MakePlan) -> None:
    made = plan(text="protocol = 'uwsgi'\nbind = '127.0.0.1:3031'\n")
    assert made.of(Verdict.WARNED) == []


def test_names_that_are_no_settings_are_the_files_own(plan: MakePlan) -> None:
    made = plan(text="project = 1\nimport os\nconcurrency = os.cpu_count()\n")
    assert {it.setting.name for it in made.of(Verdict.WARNED)} == {"bind"}


def test_all_refusals_are_in_one_message_with_their_lines(plan: MakePlan) -> None:
    text = "worker_class = 'gevent'\n\ncertfile = 'a.pem'\nkeyfile = 'b.pem'\n"
    lines = report.describe_refusals(plan("site:app", "--paste", "a.ini", text=text)).splitlines()
    assert lines[0] == "4 lines stand in the way, and nothing was started:"
    assert [it.split(": ")[0].strip() for it in lines[1:5]] == [
        "gunicorn.conf.py:1", "gunicorn.conf.py:3", "gunicorn.conf.py:4", "the command line",
    ]  # fmt: skip
    assert lines[5] == (
        "To start without: --ignore worker-class --ignore certfile --ignore keyfile --ignore paste"
    )


@pytest.mark.parametrize(
    ("text", "threads"),
    [
        ("", 100),
        ("worker_connections = 20\n", 20),
        ("threads = 12\n", 12),
    ],
)
def test_green_threads_become_threads_on_request(text: str, threads: int, plan: MakePlan) -> None:
    made = plan(text=f"worker_class = 'gevent'\n{text}", ignored=("worker-class",))
    assert made.of(Verdict.REFUSED) == []
    assert made.values["threads"] == threads
    assert made.values["heartbeat_timeout_seconds"] == 30.0


@pytest.mark.parametrize("name", ["certfile", "--certfile", "worker_class", "worker-class"])
def test_setting_is_left_out_by_any_form_of_its_name(name: str, plan: MakePlan) -> None:
    made = plan(text="certfile = 'a'\nworker_class = 'tornado'\n", ignored=(name,))
    assert len(made.of(Verdict.REFUSED)) == 1


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("worker-clas", "--ignore worker_clas: gunicorn has no such setting: did you mean worker-class?"),
        ("access-logfile", "--ignore access_logfile: gunicorn has no such setting: did you mean accesslog?"),
        ("harakiri", "--ignore harakiri: gunicorn has no such setting"),
    ],
)  # fmt: skip
def test_setting_that_is_not_there_can_not_be_left_out(
    name: str, told: str, plan: MakePlan
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        plan(ignored=(name,))
    assert str(raised.value) == told


def test_file_that_patches_the_standard_library_is_refused(
    plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    from types import ModuleType

    library = ModuleType("gevent.monkey")
    library.saved = {"socket": {}}  # type: ignore[attr-defined] # gevent's name for what it has replaced
    monkeypatch.setitem(sys.modules, "gevent.monkey", library)
    refusals = report.describe_refusals(plan(text="workers = 1\n"))
    assert "gunicorn.conf.py: config = gunicorn.conf.py: The file has gevent replace" in refusals


def test_application_below_a_path(plan: MakePlan) -> None:
    for text, environ in (
        ("raw_env = ['SCRIPT_NAME=/site']\n", {}),
        ("workers = 1\n", {"SCRIPT_NAME": "/site/"}),
    ):
        made = plan(text=text, environ=environ)
        assert made.app is None
        assert made.values["mount"] == ("/site=site:app",)
    assert plan(text="worker_class = 'asgi'", environ={"SCRIPT_NAME": "/site"}).app == "site:app"


@pytest.mark.parametrize(
    ("arguments", "text", "app"),
    [
        (("site",), "", "site:application"),
        (("site.wsgi", "-w", "2"), "", "site.wsgi:application"),
        (("site:create_app()",), "", "site:create_app()"),
        (("-w", "2"), "wsgi_app = 'one:app'", "one:app"),
        (("two:app",), "wsgi_app = 'one:app'", "two:app"),
    ],
)
def test_application_is_named_as_for_gunicorn(
    arguments: tuple[str, ...], text: str, app: str, plan: MakePlan
) -> None:
    assert plan(*arguments, text=text).app == app


def test_configuration_without_an_application_is_refused(plan: MakePlan) -> None:
    with pytest.raises(ConfigurationError, match="no application is named"):
        plan("-w", "2")


def test_sockets_of_systemd_take_the_place_of_bind(plan: MakePlan) -> None:
    made = plan(text="bind = '127.0.0.1:8000'\n", has_inherited_sockets=True)
    assert "bind" not in made.values
    assert "systemd" in texts(made, "bind")


def test_paths_begin_at_the_directory_that_gunicorn_changes_to(
    plan: MakePlan, tmp_path: Any
) -> None:
    text = (
        "chdir = 'inner'\npidfile = 'a.pid'\nerrorlog = 'logs/e'\naccesslog = '../a'\npythonpath = 'x,y'\n"
        "bind = 'unix:a.sock'\n"
    )
    values = plan(text=text).values
    inner = f"{tmp_path}/inner"
    assert values["chdir"] == inner
    assert values["pid_file"] == f"{inner}/a.pid"
    assert values["log_file"] == f"{inner}/logs/e"
    assert values["access_log_file"] == f"{tmp_path}/a"
    assert values["python_path"] == (f"{inner}/y", f"{inner}/x")
    assert values["bind"] == (f"unix:{inner}/a.sock",)


def test_of_a_setting_that_is_given_twice_only_the_last_is_mapped(plan: MakePlan) -> None:
    made = plan("site:app", "-w", "4", text="workers = 2\n")
    assert made.values["workers"] == 4
    found = [(it.verdict, it.text) for it in made.findings if it.setting.name == "workers"]
    assert found == [
        (Verdict.PASSED_OVER, "It is set anew: the command line."),
        (Verdict.MAPPED, "--workers 4"),
    ]


@pytest.mark.parametrize(
    ("name", "value", "is_shown"),
    [
        ("DJANGO_SECRET_KEY", "abc", False),
        ("DB_PASSWORD", "abc", False),
        ("API_TOKEN", "abc", False),
        ("DATABASE_URL", "postgres://site:abc@db/site", False),
        ("DATABASE_URL", "postgres://db/site", True),
        ("KEYBOARD", "de", True),
        ("DJANGO_SETTINGS_MODULE", "site.settings", True),
    ],
)
def test_values_that_may_be_secret_are_not_printed(
    name: str, value: str, is_shown: bool, plan: MakePlan
) -> None:
    made = plan(text=f"import os\nos.environ[{name!r}] = {value!r}\n")
    assert made.environment[name] == value
    printed = report.explain(made)
    assert f"{name}=" in printed
    assert (value in printed) == is_shown


def test_permissions_are_shown_in_octal(plan: MakePlan) -> None:
    assert "umask = 0o027" in report.explain(plan(text="umask = 0o27\n"))


def test_variables_that_the_file_sets_are_a_part_of_the_command(plan: MakePlan) -> None:
    made = plan(text="import os\nos.environ['SITE_MODE'] = 'of the file'\n")
    assert made.environment == {"SITE_MODE": "of the file"}
    assert report.command_lines(made)[0] == "env 'SITE_MODE=of the file' \\"
    assert "# with the variable SITE_MODE='of the file'" in report.toml_lines(made)


MARKS_DEAD = """
def child_exit(server, worker):
    from prometheus_client import multiprocess
    multiprocess.mark_process_dead(worker.pid)
"""


@pytest.mark.parametrize(
    ("more", "environ"),
    [
        ("raw_env = ['A=1', 'PROMETHEUS_MULTIPROC_DIR=/run/figures']", {}),
        ("import os\nos.environ['PROMETHEUS_MULTIPROC_DIR'] = '/run/figures'", {}),
        ("", {"PROMETHEUS_MULTIPROC_DIR": "/run/figures"}),
        ("chdir = '/'\nraw_env = ['PROMETHEUS_MULTIPROC_DIR=run/figures']", {}),
    ],
)
def test_the_hook_of_prometheus_client_becomes_the_option(
    more: str, environ: dict[str, str], plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    made = plan(text=f"{more}\n{MARKS_DEAD}", environ=environ)
    assert made.values["prometheus_multiproc_dir"] == "/run/figures"
    assert made.values["on_worker_exit"] == ON_WORKER_EXIT
    assert "child-exit" not in {it.group for it in made.of(Verdict.WARNED)}


def test_without_its_directory_the_option_is_named(plan: MakePlan) -> None:
    made = plan(text=MARKS_DEAD)
    assert "prometheus_multiproc_dir" not in made.values
    (warning,) = [it for it in made.of(Verdict.WARNED) if it.group == "child-exit"]
    assert "--prometheus-multiproc-dir sets PROMETHEUS_MULTIPROC_DIR" in warning.text


def test_another_hook_does_not_become_the_option(plan: MakePlan) -> None:
    made = plan(
        text="raw_env = ['PROMETHEUS_MULTIPROC_DIR=/run/figures']\ndef child_exit(server, worker): pass"
    )
    assert "prometheus_multiproc_dir" not in made.values
    assert "child-exit" in {it.group for it in made.of(Verdict.WARNED)}
