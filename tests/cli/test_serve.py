"""``uwsgibridge serve``: where options come from, and how what is wrong is said."""

from __future__ import annotations

import dataclasses
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import uwsgibridge
from tests.bridge_process import running_process
from tests.forked_command import run_command
from tests.raw_client import ask
from uwsgibridge.cli import main
from uwsgibridge.config.options import option_name
from uwsgibridge.config.settings import OPTIONS, Settings

# A value for each option that can't be made from its default.
SAMPLES: dict[str, Any] = {
    "bind": ("127.0.0.1:1", "[::1]:2"),
    "bind_tls_certificate": ("c.pem", "d.pem"),
    "bind_tls_key": ("c.key", "d.key"),
    "bind_tls_client_ca": "ca.pem",
    "mount": ("/one=one:app", "/two=two:app"),
    "log_to": ("journald", "syslog:192.0.2.1:514"),
    "offload": ("/protected=.", "/other=."),
    "socket_mode": "0600",
    "socket_owner": "root:root",
    "allow_from": ("10.0.0.0/8", "2001:db8::/32"),
    "allow_user": ("root", "65534"),
    "app_dir": "src",
    "chdir": "/",
    "env": ("ONE=1", "TWO"),
    "env_file": ("/dev/null", "/dev/./null"),
    "python_path": ("src", "lib"),
    "virtualenv": sys.prefix,
    "import_module": ("one", "two.py"),
    "on_fork": "site:fork",
    "on_worker_exit": "site:exit",
    "on_start": ("exec:true now", "touch:started at"),
    "on_ready": ("exec:true then", "touch:ready at"),
    "sidecar": ("sleep 1 2", "env A=1 true"),
    "control_socket": "control.sock",
    "reload_dir": ("src", "lib"),
    "reload_include": ("*.html", "*.txt"),
    "reload_exclude": ("tests", "docs"),
    "touch_reload": ("one", "two"),
    "user": "somebody",
    "group": "some",
    "umask": "027",
    "pid_file": "app.pid",
    "title": "mysite",
    "log_file": "app.log",
    "log_identifier": "shop/web",
    "log_config": "log.toml",
    "access_log_format": "%(status) %(uri)",
    "access_log_file": "access.log",
    "access_log_status": ("404", "5xx"),
    "static": ("/static=.", "/favicon.ico=favicon.ico"),
    "on_load": "site:load",
    "health_path": ("/healthz", "/ready"),
    "request_id_from": ("HTTP_X_TRACE", "REQUEST_ID"),
    "request_id_header": "X-Request-ID",
    "mount_limit": ("/one=3", "/=20"),
    "metrics_buckets": "0.1,1",
    "metrics_file": "bridge.prom",
    "prometheus_multiproc_dir": "figures",
    "statsd_host": "127.0.0.1:8125",
    "statsd_prefix": "shop",
    "statsd_tags": "env:live,region:eu",
    "status_bind": "127.0.0.1:3",
    "uwsgi_stats": "127.0.0.1:4",
    # At most, and by default, what the format holds.
    "max_vars_bytes": 1000,
}


def sample(name: str) -> Any:
    """Give a value that is not the default."""
    if name in SAMPLES:
        return SAMPLES[name]
    default = getattr(Settings(), name)
    if isinstance(default, bool):
        return not default
    if isinstance(default, str):
        return next(it for it in OPTIONS[name].choices if it != default)
    return default + 1


Called = tuple[str | None, Settings]


class Serve:
    """Runs the command up to where it would begin to serve."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.called: list[Called] = []
        self._monkeypatch = monkeypatch

        def run(app: str | None, settings: Settings, _logger: object, **_: object) -> None:
            self.called.append((app, settings))

        monkeypatch.setattr("uwsgibridge.worker.process.run_process", run)
        monkeypatch.setattr("uwsgibridge.supervisor.supervisor.run_supervisor", run)
        monkeypatch.setattr("uwsgibridge.cli.start.prepare_process", lambda *_, **__: None)
        monkeypatch.setattr("uwsgibridge.cli.start.fork_spare_template", lambda _: None)
        # Of this process, in which other tests run.
        monkeypatch.setattr("uwsgibridge.cli.environment.change_environment", lambda _: None)
        monkeypatch.setattr("uwsgibridge.system.starting_place._start", None)

    def invoke(self, *arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(main, ["serve", *arguments], env=environment)

    def settings(self, *arguments: str, **environment: str) -> Settings:
        result = self.invoke(*arguments, **environment)
        assert result.exit_code == 0, result.output
        return self.called[-1][1]

    def refusal(self, *arguments: str, **environment: str) -> str:
        result = self.invoke(*arguments, **environment)
        assert result.exit_code == 2, (result.output, result.exception)
        assert isinstance(result.exception, SystemExit)
        assert self.called == []
        return result.output


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    monkeypatch.chdir(tmp_path)
    for name in OPTIONS:
        monkeypatch.delenv(f"UWSGIBRIDGE_{name.upper()}", raising=False)
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    return Serve(monkeypatch)


# Where options come from.


def test_defaults_are_the_tables(serve: Serve):
    assert serve.settings("site:app") == Settings()
    assert serve.called[0][0] == "site:app"


def test_application_may_be_left_out_for_mounts(serve: Serve):
    settings = serve.settings("--mount", "/=site:app")
    assert serve.called[0][0] is None
    assert settings.mount == ("/=site:app",)


def on_the_command_line(name: str, value: Any) -> list[str]:
    option = option_name(name)
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-", 1)]
    values = value if isinstance(value, tuple) else (value,)
    return [part for one in values for part in (option, str(one))]


def in_the_environment(name: str, value: Any) -> dict[str, str]:
    between = "\n" if OPTIONS[name].one_a_line else " "
    text = between.join(value) if isinstance(value, tuple) else str(value)
    return {f"UWSGIBRIDGE_{name.upper()}": text}


def in_toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    return repr(value)


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_can_be_given_on_the_command_line(name: str, serve: Serve):
    value = sample(name)
    expected = dataclasses.replace(Settings(), **{name: value})
    assert serve.settings("site:app", *on_the_command_line(name, value)) == expected


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_can_be_given_in_the_environment(name: str, serve: Serve):
    value = sample(name)
    expected = dataclasses.replace(Settings(), **{name: value})
    assert serve.settings("site:app", **in_the_environment(name, value)) == expected


@pytest.mark.parametrize("spelling", ["_", "-"])
@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_can_be_given_in_a_file(name: str, spelling: str, serve: Serve, tmp_path: Path):
    value = sample(name)
    key = name.replace("_", spelling)
    (tmp_path / "uwsgibridge.toml").write_text(f"{key} = {in_toml(value)}\n")
    expected = dataclasses.replace(Settings(), **{name: value})
    assert serve.settings("site:app") == expected


def test_command_line_wins_over_environment_over_file_over_default(serve: Serve, tmp_path: Path):
    (tmp_path / "uwsgibridge.toml").write_text(
        "threads = 2\nbacklog = 2\nmax_vars = 2\nbind = ['127.0.0.1:2']\nfactory = true\n"
    )
    settings = serve.settings(
        "site:app",
        "--threads",
        "4",
        "--bind",
        "127.0.0.1:4",
        "--no-factory",
        UWSGIBRIDGE_THREADS="3",
        UWSGIBRIDGE_BACKLOG="3",
        UWSGIBRIDGE_BIND="127.0.0.1:3",
    )
    assert (settings.threads, settings.backlog, settings.max_vars) == (4, 3, 2)
    assert settings.bind == ("127.0.0.1:4",)
    assert settings.factory is False
    assert settings.accept_margin == Settings().accept_margin


def test_the_application_can_be_named_in_each_place(serve: Serve, tmp_path: Path):
    (tmp_path / "uwsgibridge.toml").write_text("app = 'file:app'\n")
    serve.settings()
    serve.settings(UWSGIBRIDGE_APP="environment:app")
    serve.settings("command:app", UWSGIBRIDGE_APP="environment:app")

    assert [app for app, _ in serve.called] == ["file:app", "environment:app", "command:app"]


def test_short_options_are_taken(serve: Serve):
    settings = serve.settings("site:app", "-b", "127.0.0.1:1", "-b", "unix:app.sock", "-w", "1")
    assert settings.bind == ("127.0.0.1:1", "unix:app.sock")


def test_config_names_the_file(serve: Serve, tmp_path: Path):
    (tmp_path / "uwsgibridge.toml").write_text("threads = 2\n")
    (tmp_path / "other.toml").write_text("backlog = 3\n")
    settings = serve.settings("site:app", "--config", "other.toml")
    assert (settings.threads, settings.backlog) == (Settings().threads, 3)


def test_configuration_of_gunicorn_is_no_file_of_options(serve: Serve, tmp_path: Path):
    (tmp_path / "gunicorn.conf.py").write_text("workers = 2\n")
    refusal = serve.refusal("site:app", "--config", "gunicorn.conf.py")
    assert "run-gunicorn -c gunicorn.conf.py runs a configuration of gunicorn" in refusal


def test_options_can_stand_in_pyproject(serve: Serve, tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text(
        "[project]\nname = 'site'\n[tool.uwsgibridge]\nthreads = 3\n"
    )
    assert serve.settings("site:app").threads == Settings().threads
    assert serve.settings("site:app", "--config", "pyproject.toml").threads == 3


# What is wrong.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("threads = \n", "Invalid value"),
        ("thread = 3\n", "there is no option 'thread'"),
        ("[serve]\nthreads = 3\n", "there is no section [serve]: options stand at its top"),
        ("threads = 'many'\n", "--threads takes a whole number"),
        ("threads = 0\n", "--threads"),
        ("threads = [1, 2]\n", "--threads"),
        ("threads = 1.5\n", "--threads"),
        ("factory = 'perhaps'\n", "--factory"),
        ("loop = 'twisted'\n", "'twisted'"),
        ("bind = '127.0.0.1:1'\n", "--bind"),
        ("bind = 5\n", "--bind"),
        ("bind = []\n", "--bind"),
        ("bind = [5]\n", "--bind"),
        ("\N{LATIN SMALL LETTER A}\xff", "--config"),
    ],
    ids=repr,
)
def test_file_that_is_wrong_is_refused_in_words(text: str, said: str, serve: Serve, tmp_path: Path):
    (tmp_path / "uwsgibridge.toml").write_bytes(text.encode("latin-1"))
    assert said in serve.refusal("site:app")


def test_file_that_is_missing_is_refused(serve: Serve):
    assert "missing.toml" in serve.refusal("site:app", "--config", "missing.toml")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bind", "nonsense"], "'nonsense' is not an address"),
        (["--bind", "/run/app.sock"], "unix:/run/app.sock"),
        (["--bind", "unix:" + "s" * 108], "too long for a unix socket: 108 bytes, 107 fit"),
        (["--socket-mode", "rw"], "--socket-mode"),
        (["--threads", "0"], "--threads 0 must be at least 1"),
        (["--threads", "many"], "--threads"),
        (["--loop", "twisted"], "--loop"),
        (["--interface", "cgi"], "--interface"),
        (["--mount", "api=site:app"], "--mount"),
        (["--mount", "/api"], "--mount"),
        (["--workers", "-1"], "--workers -1"),
        (["--workers", "0", "--reload"], "--reload needs a supervisor"),
        (["--workers-min", "3", "--workers-max", "2"], "--workers-max 2 is below"),
        (["--max-rss-bytes", "2", "--max-rss-hard-bytes", "1"], "--max-rss-hard-bytes 1"),
        (["--on-fork", "module"], "--on-fork"),
        (["--umask", "9"], "--umask"),
        (["--body-timeout-seconds", "0"], "--body-timeout-seconds"),
        (["--body-timeout-seconds", "nan"], "--body-timeout-seconds"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_option_that_is_wrong_is_named(arguments: list[str], said: str, serve: Serve):
    assert said in serve.refusal("site:app", *arguments)


def test_environment_that_is_wrong_is_named(serve: Serve):
    assert "UWSGIBRIDGE_THREADS in the environment" in serve.refusal(
        "site:app", UWSGIBRIDGE_THREADS="many"
    )


# Whole processes: exit status, and what a person reads.


def ends(directory: Path, *arguments: str) -> tuple[int, str]:
    return run_command("serve", *arguments, "--bind", "127.0.0.1:0", directory=directory)


GOOD_APP = (
    "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'x']\n"
)

FACTORY = GOOD_APP + "def create(*arguments):\n    return app\n"


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        (GOOD_APP, "nosuchmodule:app", "there is no module 'nosuchmodule'"),
        (GOOD_APP, "site_app:ap", "site_app has no attribute 'ap'; did you mean 'app'?"),
        (GOOD_APP, "site_app:nothing_like_it", "site_app has no attribute 'nothing_like_it'"),
        ("app = 5\n", "site_app:app", "site_app:app is of type int, which can't be called"),
        ("x = 5\n", "site_app", "site_app has no attribute 'application' or 'app'"),
        (GOOD_APP, "site_other.py", "there is no file site_other.py in "),
        ("def app():\n    pass\n", "site_app:app", "site_app:app takes no arguments, so"),
        ("class app:\n    pass\n", "site_app:app", "serve it with --factory"),
        ("def app(scope):\n    pass\n", "site_app:app", "asgiref's guarantee_single_callable"),
        ("def app(a, b, c, d):\n    pass\n", "site_app:app", "site_app:app fits neither interface"),
        (FACTORY, "site_app:create(open)", "and name it with --factory"),
    ],
    ids=[
        "no-module",
        "typo",
        "no-attribute",
        "not-callable",
        "no-default",
        "a-file",
        "a-factory",
        "a-class",
        "asgi-2",
        "neither",
        "arguments",
    ],
)
def test_application_that_can_not_be_found_is_told_in_a_sentence(
    source: str, name: str, said: str, tmp_path: Path
):
    (tmp_path / "site_app.py").write_text(source)
    status, output = ends(tmp_path, name)

    assert status == 3
    assert output.startswith("Error: ")
    assert said in output
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize(
    ("source", "options", "error", "last_line"),
    [
        (
            "import nosuchlibrary\n",
            [],
            "ModuleNotFoundError",
            "Error: importing site_app failed: nosuchlibrary is not installed in ",
        ),
        ("def app(:\n", [], "SyntaxError", "Error: importing site_app failed"),
        ("raise SystemExit('no settings')\n", [], "SystemExit: no settings", "Error: importing"),
        (
            "def load():\n    return {}['SECRET']\nvalue = load()\n",
            [],
            "KeyError: 'SECRET'",
            "Error: importing site_app failed",
        ),
        (
            "def app():\n    raise ValueError('no database')\n",
            ["--factory"],
            "ValueError: no database",
            "Error: the factory site_app:app failed",
        ),
        (
            "async def app(scope, receive, send):\n    raise ValueError('no database')\n",
            ["--lifespan", "on"],
            "ValueError: no database",
            "Error: the application's startup failed (--lifespan on)",
        ),
    ],
    ids=["import", "syntax", "exit", "error", "factory", "lifespan"],
)
def test_application_that_fails_shows_its_own_traceback_and_none_of_ours(
    source: str, options: list[str], error: str, last_line: str, tmp_path: Path
):
    (tmp_path / "site_app.py").write_text(source)
    status, output = ends(tmp_path, "site_app:app", *options)

    assert status == 3
    assert error in output
    assert "site_app.py" in output
    assert output.splitlines()[-1].startswith(last_line)
    assert str(Path(uwsgibridge.__file__).parent) not in output
    assert "importlib" not in output
    # None for a SyntaxError: no frame of the application has run.
    assert output.count("Traceback (most recent call last)") == (error != "SyntaxError")


def test_mounted_factory_with_arguments_is_refused(tmp_path: Path):
    (tmp_path / "site_app.py").write_text(FACTORY)
    status, output = ends(tmp_path, "--mount", "/a=site_app:create(debug=DEBUG)")

    assert status == 3
    assert output == (
        "Error: 'site_app:create(debug=DEBUG)' is more than the call of a factory with literals, such as 'prod', 5, "
        "None or [1, 2]; write a function without arguments that makes this call, and name it with --factory (mounted "
        "at /a)"
    )


def test_async_factory_is_refused_without_a_warning(tmp_path: Path):
    (tmp_path / "site_app.py").write_text("async def create():\n    return print\n")
    status, output = ends(tmp_path, "site_app:create", "--factory")

    assert (status, output) == (
        3,
        "Error: the factory site_app:create is an async function; it must be a plain one",
    )


def test_factory_as_gunicorn_has_it_is_served(tmp_path: Path):
    (tmp_path / "site_app.py").write_text(FACTORY)
    arguments = ["site_app:create()", "--mount", "/a=site_app:create()", "--bind", "127.0.0.1:0"]
    with running_process("serve", *arguments, directory=tmp_path) as process:
        assert ask(process.address).body == b"x"
        assert ask(process.address, "/a/below").body == b"x"


def test_startup_that_says_why_it_failed_is_told_in_a_sentence(tmp_path: Path):
    (tmp_path / "site_app.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
    )
    status, output = ends(tmp_path, "site_app:app")

    assert (status, output) == (3, "Error: the application's startup failed: no database")


def test_a_file_of_options_may_begin_as_editors_of_windows_have_it(tmp_path: Path):
    (tmp_path / "uwsgibridge.toml").write_bytes(
        b'\xef\xbb\xbfapp = "missing_app:app"\r\nworkers = 0\r\n'
    )
    status, output = run_command("serve", directory=tmp_path)

    assert status == 3
    assert "there is no module 'missing_app'" in output


@pytest.mark.parametrize("name", ["site:app", "site", "click:app"])
def test_a_module_that_hides_the_file_that_is_meant_is_told(name: str, tmp_path: Path):
    module = name.partition(":")[0]
    (tmp_path / f"{module}.py").write_text(GOOD_APP)
    status, output = run_command("serve", name, "--bind", "127.0.0.1:0", directory=tmp_path)

    assert status == 3
    assert output.startswith(f"Error: {module} has no attribute 'app")
    assert (
        f", which Python has imported before {tmp_path}/{module}.py; give yours another name"
        in output
    )


def test_an_address_in_use_is_told(tmp_path: Path):
    (tmp_path / "site_app.py").write_text(GOOD_APP)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, output = run_command("serve", "site_app:app", "--bind", address, directory=tmp_path)

    assert status == 1
    assert output.startswith(f"Error: {address}: the port is in use")
    assert len(output.splitlines()) == 1


def test_directory_that_is_missing(tmp_path: Path):
    (tmp_path / "site_app.py").write_text(GOOD_APP)
    status, output = run_command(
        "serve", "site_app:app", "--bind", "unix:missing/app.sock", directory=tmp_path
    )

    assert status == 1
    assert output == "Error: unix:missing/app.sock: there is no directory missing; create it first"


def test_nothing_to_serve_is_wrong_usage(tmp_path: Path):
    status, output = ends(tmp_path)

    assert status == 2
    assert "uwsgibridge serve module:attribute" in output


def test_two_applications_at_one_prefix_are_wrong_usage(tmp_path: Path):
    (tmp_path / "site_app.py").write_text(GOOD_APP)
    status, output = ends(tmp_path, "--mount", "/a=site_app:app", "--mount", "/a/=site_app:app")

    assert status == 2
    assert "two applications are mounted at '/a' (--mount)" in output


def write_factory(directory: Path) -> list[str]:
    (directory / "src").mkdir()
    (directory / "src" / "made.py").write_text(
        "def create():\n"
        "    def app(environ, start_response):\n"
        "        start_response('200 OK', [])\n"
        "        return [b'made']\n"
        "    return app\n"
    )
    return ["made:create", "--factory", "--app-dir", "src"]


def write_configuration(directory: Path) -> list[str]:
    options = write_factory(directory)
    (directory / "uwsgibridge.toml").write_text(
        f"app = '{options[0]}'\nfactory = true\napp-dir = 'src'\nlog_format = 'json'\n"
        "bind = ['127.0.0.1:0']\n"
    )
    return []


@pytest.mark.parametrize("prepare", [write_factory, write_configuration])
def test_factory_in_another_directory_is_served(
    prepare: Callable[[Path], list[str]], tmp_path: Path
):
    arguments = prepare(tmp_path)
    if arguments:
        arguments += ["--bind", "127.0.0.1:0", "--log-format", "json"]
    with running_process("serve", *arguments, directory=tmp_path) as process:
        assert ask(process.address).body == b"made"
        assert process.stop() == 0


def test_help_lists_each_option_under_its_section(tmp_path: Path):
    status, output = run_command("serve", "--help", directory=tmp_path)

    assert status == 0
    for name in OPTIONS:
        assert option_name(name) in output
    assert "\\b" not in output  # click's mark of a paragraph
    for section in {option.section for option in OPTIONS.values()}:
        assert f"{section}:" in output
