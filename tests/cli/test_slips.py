"""Each slip of the keyboard, and each habit from another server, is answered by one sentence."""

from __future__ import annotations

import dataclasses
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.bridge_process import running_process
from tests.forked_command import run_command
from uwsgibridge.cli.slips import refuse_file, refuse_variables
from uwsgibridge.client import request
from uwsgibridge.config.settings import OPTIONS, Settings
from uwsgibridge.errors import SettingsError

PATIENCE_SECONDS = 60.0

APPLICATION = """
def create_app():
    return app

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"one"]

number = 5
"""

FILES = {
    "ends.py": "import os\nos._exit(5)\n",
    "crashes.py": "import os, resource, signal\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
    "os.kill(os.getpid(), signal.SIGSEGV)\n",
    "unit.toml": 'max_rss_bytes = "1 KB"\n',
    "table.toml": '[env]\nPASSWORD = "secret"\n',
    "float.toml": "max_rss_bytes = 1.5\n",
    "typo.toml": "theads = 2\n",
    "uwsgi.toml": "processes = 4\n",
    "file.toml": 'wsgi-file = "site_.py"\n',
    "static.toml": 'check-static = "."\n',
    "bare.toml": "app = site_:app\n",
    "size.toml": "max_rss_bytes = 256M\n",
    "section.toml": "[serve]\nthreads = 2\n",
    "pyproject.toml": "[tool.uwsgibridge.serve]\nthreads = 2\n",
    "twice.toml": "threads = 2\nthreads = 3\n",
    "latin.toml": 'title = "\xe9"\n',
    "text.toml": 'bind = "127.0.0.1:0"\n',
}


@pytest.fixture
def directory() -> Iterator[Path]:
    """With a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory() as path:
        (Path(path) / "site_.py").write_text(APPLICATION)
        (Path(path) / "directory").mkdir()
        for name, text in FILES.items():
            (Path(path) / name).write_bytes(text.encode("latin-1"))
        yield Path(path)


RUN_INSTEAD = "a configuration of uWSGI runs as it is by uwsgibridge run-uwsgi"
SERVE = ("serve", "site_:app")

SLIPS: list[tuple[tuple[str, ...], Mapping[str, str], int, str]] = [
    ((*SERVE, "--backlog", "999999999999"), {}, 2, "--backlog 999999999999 must be at most 1000000"),
    ((*SERVE, "--workers", "100000"), {}, 2, "--workers 100000 must be at most 1000"),
    ((*SERVE, "--workers", "-1"), {}, 2, "--workers -1 must be at least 0"),
    ((*SERVE, "--threads", "99999999"), {}, 2, "--threads 99999999 must be at most 10000"),
    (
        (*SERVE, "--graceful-timeout-seconds", "1e300"), {}, 2,
        "--graceful-timeout-seconds 1e+300 must be at most 1000000000",
    ),
    (
        (*SERVE, "--graceful-timeout-seconds", "nan"), {}, 2,
        "--graceful-timeout-seconds nan must be at least 0",
    ),
    ((*SERVE, "--config", "/dev/zero"), {}, 2, "--config /dev/zero: it has over 1048576 bytes"),
    ((*SERVE, "--config", "/"), {}, 2, "File '/' is a directory"),
    ((*SERVE, "--bind", "unix:/proc/x.sock"), {}, 1, "unix:/proc/x.sock: nothing can be made in /proc"),
    ((*SERVE, "--bind", "unix:/dev/null/x.sock"), {}, 1, "unix:/dev/null/x.sock: /dev/null is no directory"),
    (("ping", "bogus"), {}, 2, "write unix:/run/app.sock, 127.0.0.1:3031 or [::1]:3031"),
    (("request", "bogus"), {}, 2, "write unix:/run/app.sock, 127.0.0.1:3031 or [::1]:3031"),
    (("serve", "site_.create_app"), {}, 3, "did you mean site_:create_app?"),
    (("serve", "site_.nothing"), {}, 3, "there is no module 'site_.nothing'"),
    (("sevre", "site_:app"), {}, 2, "there is no command 'sevre': did you mean serve?"),
    (("bogus",), {}, 2, "there is no command 'bogus': see --help"),
    (("site_:app",), {}, 2, "there is no command 'site_:app': uwsgibridge serve site_:app serves"),
    (("--ini", "x.ini"), {}, 2, f"No such option: --ini: {RUN_INSTEAD} --ini FILE"),
    (("serve", "--ini", "x.ini"), {}, 2, f"No such option: --ini: {RUN_INSTEAD} --ini FILE"),
    (("serve", "x.ini"), {}, 2, f"'x.ini' is no application (module:attribute); {RUN_INSTEAD} x.ini"),
    (("serve", "x.toml"), {}, 2, "write --config x.toml"),
    (("dev", "x.ini"), {}, 2, f"{RUN_INSTEAD} x.ini"),
    (("serve", "--socket", "s", "site_:app"), {}, 2, "No such option: --socket: write --bind"),
    (("serve", "--harakiri", "3"), {}, 2, "--harakiri: write --request-timeout-seconds"),
    ((*SERVE, "--thraeds", "3"), {}, 2, "--threads"),
    (
        SERVE, {"UWSGIBRIDGE_WROKERS": "3"}, 2,
        "the environment has UWSGIBRIDGE_WROKERS, which is no option: did you mean UWSGIBRIDGE_WORKERS?",
    ),
    (
        SERVE, {"UWSGIBRIDGE_NONSENSE": "3"}, 2,
        "the environment has UWSGIBRIDGE_NONSENSE, which is no option; remove it, or name it otherwise",
    ),
    (("dev", "site_:app"), {"UWSGIBRIDGE_NONSENSE": "3"}, 2, "the environment has UWSGIBRIDGE_NONSENSE"),
    (
        SERVE, {"UWSGIBRIDGE_WORKERS": "abc"}, 2,
        "UWSGIBRIDGE_WORKERS in the environment: 'abc' is not a valid integer",
    ),
    (
        SERVE, {"UWSGIBRIDGE_LOOP": "abc"}, 2,
        "UWSGIBRIDGE_LOOP in the environment: 'abc' is not one of",
    ),
    (
        SERVE, {"UWSGIBRIDGE_WORKERS": "100000"}, 2,
        "--workers 100000 must be at most 1000 (in the environment: UWSGIBRIDGE_WORKERS)",
    ),
    (
        SERVE, {"UWSGIBRIDGE_BIND": "bogus"}, 2,
        "(in the environment: UWSGIBRIDGE_BIND)",
    ),
    # A unit behind a number, and one that is none.
    (
        (*SERVE, "--request-timeout-seconds", "30S"), {}, 2,
        "--request-timeout-seconds': '30S' is no time: write a number of seconds, or one with ms, s, m, h or d",
    ),
    ((*SERVE, "--graceful-timeout-seconds", "-1s"), {}, 2, "'-1s' is no time"),
    ((*SERVE, "--body-timeout-seconds", "0ms"), {}, 2, "--body-timeout-seconds 0.0 must be at least 0.001"),
    ((*SERVE, "--max-rss-bytes", "512MB"), {}, 2, "'512MB' may mean 1000s or 1024s: write 512M for 512 times 1048576"),
    ((*SERVE, "--max-rss-bytes", "2.5"), {}, 2, "'2.5' is no size"),
    ((*SERVE, "--max-vars-bytes", "64k"), {}, 2, "--max-vars-bytes 65536: the format holds 65535"),
    (
        SERVE, {"UWSGIBRIDGE_REQUEST_TIMEOUT_SECONDS": "2y"}, 2,
        "UWSGIBRIDGE_REQUEST_TIMEOUT_SECONDS in the environment: '2y' is no time",
    ),
    ((*SERVE, "--config", "unit.toml"), {}, 2, "--config unit.toml: --max-rss-bytes: '1 KB' may mean 1000s or 1024s"),
    ((*SERVE, "--config", "table.toml"), {}, 2, "--config table.toml: --env takes a list of texts in quotes"),
    ((*SERVE, "--config", "float.toml"), {}, 2, '--max-rss-bytes takes a whole number, or a text such as "256M", not 1.5'),
    (("ping", "127.0.0.1:1", "--timeout-seconds", "1x"), {}, 2, "'1x' is no time"),
    (("request", "127.0.0.1:1", "--timeout-seconds", "1x"), {}, 2, "'1x' is no time"),
    (("ctl", "top", "--interval-seconds", "10ms"), {}, 2, "10ms must be at least 0.1 seconds"),
    (("ctl", "reload", "--timeout-seconds", "2000h"), {}, 2, "2000h must be at most 1e+06 seconds"),
    (("nginx", "--client-max-body-bytes", "1MB"), {}, 2, "'1MB' may mean 1000s or 1024s"),
    (("nginx", "--read-timeout-seconds", "1500ms"), {}, 2, "1500ms is no whole number of seconds"),
    ((*SERVE, "--workers", "4x"), {}, 2, "'4x' is not a valid integer"),
    # Addresses.
    ((*SERVE, "--bind", "127.0.0.1"), {}, 2, "; the port is missing: 127.0.0.1:3031"),
    ((*SERVE, "--bind", "[::1]"), {}, 2, "; the port is missing: [::1]:3031"),
    ((*SERVE, "--bind", ":::8000"), {}, 2, "; an IPv6 address stands in brackets: [::]:8000"),
    ((*SERVE, "--bind", "http://127.0.0.1:8000"), {}, 2, "; leave http:// out"),
    ((*SERVE, "--bind", "unix:"), {}, 2, "'unix:' names no file; write for example unix:/run/app.sock"),
    ((*SERVE, "--bind", "/run/x.sock"), {}, 2, "; for a unix socket write unix:/run/x.sock"),
    ((*SERVE, "--bind", "localhost:99999"), {}, 2, "a port is at most 65535"),
    ((*SERVE, "--bind", "unix:directory"), {}, 1, "unix:directory: there is a file that is not a socket"),
    ((*SERVE, "--bind", "unix:site_.py"), {}, 1, "unix:site_.py: there is a file that is not a socket"),
    # Files of options.
    ((*SERVE, "--config", "typo.toml"), {}, 2, "there is no option 'theads': did you mean 'threads'?"),
    ((*SERVE, "--config", "uwsgi.toml"), {}, 2, "there is no option 'processes': write workers"),
    ((*SERVE, "--config", "file.toml"), {}, 2, "there is no option 'wsgi_file': write app"),
    ((*SERVE, "--config", "static.toml"), {}, 2, "there is no option 'check_static': write static /=DIR"),
    ((*SERVE, "--config", "bare.toml"), {}, 2, "(at line 1, column 7); all but plain numbers, true and false stands in quotes"),
    ((*SERVE, "--config", "size.toml"), {}, 2, "(at line 1, column 20); all but plain numbers, true and false"),
    (
        SERVE, {"UWSGIBRIDGE_PROCESSES": "3"}, 2,
        "the environment has UWSGIBRIDGE_PROCESSES, which is no option: write UWSGIBRIDGE_WORKERS",
    ),
    (SERVE, {"UWSGIBRIDGE_MODULE": "site_"}, 2, "UWSGIBRIDGE_MODULE, which is no option: write UWSGIBRIDGE_APP"),
    ((*SERVE, "--config", "section.toml"), {}, 2, "there is no section [serve]: options stand at its top"),
    ((*SERVE, "--config", "pyproject.toml"), {}, 2, "there is no section [serve]: options stand under [tool.uwsgibridge]"),
    ((*SERVE, "--config", "twice.toml"), {}, 2, "--config twice.toml: Cannot overwrite a value (at line 2"),
    ((*SERVE, "--config", "latin.toml"), {}, 2, "--config latin.toml: it is not UTF-8 (from its byte 9 on)"),
    ((*SERVE, "--config", "text.toml"), {}, 2, "--bind takes a list of texts in quotes, not"),
    # Other files and directories.
    ((*SERVE, "--app-dir", "missing"), {}, 3, "--app-dir missing: there is no directory "),
    ((*SERVE, "--pid-file", "missing/x.pid"), {}, 1, "missing; create it first"),
    ((*SERVE, "--log-file", "missing/x.log"), {}, 1, "missing; create it first"),
    ((*SERVE, "--log-file", "directory"), {}, 1, "directory: it is a directory"),
    # Applications that are none, or take the process with them.
    (("serve", "site_:number"), {}, 3, "site_:number is of type int, which can't be called"),
    (("serve", "site_:app()"), {}, 3, "site_:app needs arguments, so it is no factory: if it is the application"),
    ((*SERVE, "--factory"), {}, 3, "leave out () and --factory"),
    (
        ("serve", "ends", "--workers", "1"), {}, 5,
        "the process ended with status 5 while it loaded the application: something there calls os._exit()",
    ),
    (("serve", "ends", "--workers", "1", "--preload"), {}, 5, "something there calls os._exit()"),
    (
        ("serve", "crashes", "--workers", "1"), {}, 1,
        "the process was ended by SIGSEGV while it loaded the application: import that with",
    ),
    # Commands and options of other commands.
    (("run", "site_:app"), {}, 2, "there is no command 'run': did you mean serve?"),
    (("Serve", "site_:app"), {}, 2, "there is no command 'Serve': did you mean serve?"),
    (("help",), {}, 2, "did you mean --help?"),
    (("restart",), {}, 2, "did you mean ctl reload?"),
    (("ctl", "restart"), {}, 2, "there is no command 'restart': did you mean reload?"),
    (("ctl", "ps"), {}, 2, "there is no command 'ps': did you mean status?"),
    (
        ("dev", "site_:app", "--bind", "127.0.0.1:80"), {}, 2,
        "No such option: --bind: dev has an Nginx of its own; write --port",
    ),
    (("dev", "site_:app", "--host", "x"), {}, 2, "No such option: --host: dev has an Nginx of its own"),
    (("dev", "site_:app", "-b", "x"), {}, 2, "No such option: -b: dev has an Nginx of its own"),
    (("dev", "site_:app", "--workers", "2"), {}, 2, "No such option: --workers: it is for serve"),
    (("dev", "site_:app", "--processes", "2"), {}, 2, "No such option: --processes: it is for serve"),
    (("dev", "site_:app", "--harakiri", "2"), {}, 2, "--harakiri: write --request-timeout-seconds"),
    (SERVE, {"UWSGIBRIDGE_CONFIG": "gone.toml"}, 2, "--config gone.toml: No such file"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "sentence"),
    SLIPS,
    ids=[" ".join([*environment, *arguments])[:60] for arguments, environment, _, _ in SLIPS],
)
def test_each_slip_gets_one_sentence(
    directory: Path,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    status: int,
    sentence: str,
) -> None:
    found, said = run_command(*arguments, directory=directory, environment=environment)
    assert sentence in said
    assert "Traceback" not in said
    assert "secret" not in said
    assert found == status
    assert len([line for line in said.splitlines() if line.startswith("Error: ")]) == 1


def test_variables_of_others_are_left_alone() -> None:
    """Kubernetes sets such for a service that is called uwsgibridge."""
    environ = {
        "UWSGIBRIDGE_PORT": "tcp://10.0.0.1:3031",
        "UWSGIBRIDGE_SERVICE_HOST": "10.0.0.1",
        "UWSGIBRIDGE_SERVICE_PORT": "3031",
        "UWSGIBRIDGE_PORT_3031_TCP_ADDR": "10.0.0.1",
        "UWSGIBRIDGE_APP": "site_:app",
        "UWSGIBRIDGE_NGINX": "packaged",
        "UWSGIBRIDGE_HERITAGE_FD": "5",
        "OTHER_WROKERS": "3",
    }
    environ |= dict.fromkeys(
        (
            "UWSGIBRIDGE_SERVICE_PORT_UWSGI",
            "UWSGIBRIDGE_PORT_3031_TCP",
            "UWSGIBRIDGE_PORT_3031_UDP_PROTO",
            "UWSGIBRIDGE_ADMIN_SERVICE_HOST",
            "UWSGIBRIDGE_ADMIN_PORT_3031_TCP_PORT",
            "UWSGIBRIDGE_PURE",
        ),
        "",
    )
    environ |= {f"UWSGIBRIDGE_{it.name.upper()}": "" for it in dataclasses.fields(Settings)}
    refuse_variables("UWSGIBRIDGE_", (it.name for it in dataclasses.fields(Settings)), environ)


@pytest.mark.parametrize("app", ["site_:app", "site_", "config.ini:app", "toml", "a.b.c:d"])
def test_applications_are_no_files(app: str) -> None:
    refuse_file(app)


NUMBERS = [it for it in dataclasses.fields(Settings) if OPTIONS[it.name].kind.is_number]


@pytest.mark.parametrize("field", NUMBERS, ids=lambda it: it.name)
def test_every_number_has_a_bound_that_is_said(field: dataclasses.Field[object]) -> None:
    option = "--" + field.name.replace("_", "-")
    for number in (10**15, float("inf")) if field.type == "float" else (10**15,):
        with pytest.raises(SettingsError, match=rf"{option} \S+ must be at most \d+"):
            Settings(**{field.name: number})  # type: ignore[arg-type] # one of them
    with pytest.raises(SettingsError, match=rf"{option} \S+ must be at least"):
        Settings(**{field.name: -1})  # type: ignore[arg-type] # one of them


def test_directory_that_has_been_removed(tmp_path: Path) -> None:
    for arguments in (("serve", "site_:app"), ("dev", "site_:app"), ("convert", "a.ini")):
        gone = tmp_path / "gone"
        gone.mkdir()
        finished = subprocess.run(
            ["sh", "-c", 'rmdir "$0"; exec "$@"', str(gone), sys.executable, "-m", "uwsgibridge",
             *arguments],
            cwd=gone, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        assert finished.returncode == 2
        assert "the current directory can't be used" in finished.stderr
        assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("limit", [8, 10, 32, 63])
def test_too_few_descriptors_are_told(directory: Path, limit: int) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "uwsgibridge", *SERVE, "--bind", "unix:s"],
        cwd=directory, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
    )  # fmt: skip
    assert finished.stderr.startswith(
        f"Error: the limit on open files is {limit}, and at least 64 are needed: raise it (ulimit -n"
    )
    assert finished.returncode == 2


def test_a_limit_on_files_that_workers_can_not_count_in_is_told(directory: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "uwsgibridge", *SERVE, "--bind", "unix:s", "--workers", "1"],
        cwd=directory, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)),
    )  # fmt: skip
    assert finished.stderr.startswith(
        "Error: the limit on the size of files is 1024 bytes, and what a worker counts in has "
    )
    assert "raise it (ulimit -f" in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
    assert finished.returncode == 2


def test_just_enough_descriptors_serve(directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "uwsgibridge", *SERVE, "--bind", "unix:s", "--workers", "2",
         "--control-socket", "none", "--log-format", "text"],
        cwd=directory, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),  # noqa: PLW1509 - no threads
    ) as process:  # fmt: skip
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "listening" in line:
                break
        assert request(f"unix:{directory}/s").body == b"one", said
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


# What has to be known before a request is accepted.


@pytest.mark.parametrize("control", ["missing/c.sock", "site_.py"])
def test_control_socket_that_can_not_be_had_starts_nothing(directory: Path, control: str) -> None:
    (directory / "site_.py").write_text(f"{APPLICATION}\nopen('imported', 'w').close()\n")
    status, said = run_command(
        *SERVE, "--bind", "unix:s", "--workers", "1", "--control-socket", control,
        directory=directory,
    )  # fmt: skip
    assert status == 1
    assert "Error: --control-socket: unix:" in said
    assert "Traceback" not in said
    assert not (directory / "imported").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_control_socket_that_the_user_can_not_make_starts_nothing(directory: Path) -> None:
    directory.chmod(0o755)
    (directory / "site_.py").write_text(
        f"{APPLICATION}\nopen('/dev/stdout', 'w').write('imported')\n"
    )
    status, said = run_command(
        *SERVE, "--bind", "unix:s", "--workers", "1", "--control-socket", "c.sock",
        "--user", "65534", "--group", "65534",
        directory=directory,
    )  # fmt: skip
    assert status == 1
    assert "Error: --control-socket: unix:c.sock: no permission to create a socket" in said
    assert "imported" not in said


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["each-worker", "preload"])
def test_edit_while_the_application_is_loaded_is_not_missed(
    directory: Path, preload: tuple[str, ...]
) -> None:
    """The first version of a module is being loaded as its second one is written."""
    (directory / "site_.py").write_text(
        "import os, time, values\n"
        "os.path.exists('begun') or open('begun', 'w').close()\n"
        "while not os.path.exists('edited'):\n"
        "    time.sleep(0.01)\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [values.value]\n"
    )
    (directory / "values.py").write_text("value = b'one'\n")
    with running_process(
        *SERVE, "--bind", "unix:s", "--workers", "1", "--control-socket", "none", "--reload",
        *preload,
        directory=directory, environment={"PYTHONDONTWRITEBYTECODE": "1"},
    ) as process:  # fmt: skip
        while not (directory / "begun").exists():
            assert process.is_running
        (directory / "values.py").write_text("value = b'another'\n")
        (directory / "edited").touch()
        process.events.wait(event="generation has ended")
        assert request(f"unix:{directory}/s").body == b"another"
        assert process.stop() == 0
