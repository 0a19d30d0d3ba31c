"""gunicorn's arguments: flags, short flags, abbreviations, and what is wrong."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pytest

from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.gunicorn.command_line import parse_arguments
from uwsgibridge.migration.gunicorn.known_settings import SETTINGS, Flag
from uwsgibridge.migration.gunicorn.values import Kind

HAS_GUNICORN = importlib.util.find_spec("gunicorn") is not None


@pytest.mark.parametrize(
    ("arguments", "names", "settings"),
    [
        (("app:app",), ["app:app"], {}),
        (("-w", "4", "app:app"), ["app:app"], {"workers": 4}),
        (("app:app", "-w4", "-b:8000"), ["app:app"], {"workers": 4, "bind": [":8000"]}),
        (("--bind=a:1", "-b", "b:2"), [], {"bind": ["a:1", "b:2"]}),
        (("--worker-cl", "gthread", "--thr", "3"), [], {"worker_class": "gthread", "threads": 3}),
        (
            ("--preload", "--reload", "-D"),
            [],
            {"preload_app": True, "reload": True, "daemon": True},
        ),
        (("--no-sendfile",), [], {"sendfile": False}),
        (("-m", "007"), [], {"umask": 7}),
        (("-m", "0x1f"), [], {"umask": 31}),
        (("--proxy-protocol",), [], {"proxy_protocol": "auto"}),
        (("--proxy-protocol", "v2"), [], {"proxy_protocol": "v2"}),
        (("-e", "A=1", "-e", "B=2"), [], {"raw_env": ["A=1", "B=2"]}),
        (("--log-file", "x", "--error-logfile", "y"), [], {"errorlog": "y"}),
        (("--limit-request-field_size", "9"), [], {"limit_request_field_size": 9}),
        (("one", "two"), ["one", "two"], {}),
    ],
)
def test_arguments_are_read_as_gunicorn_reads_them(
    arguments: tuple[str, ...], names: list[str], settings: dict[str, Any]
) -> None:
    assert parse_arguments(arguments, "there") == (names, settings)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--wrokers", "4"), "there: unrecognized arguments: --wrokers"),
        (("-w", "many"), "there: argument -w/--workers: invalid int value: 'many'"),
        (("-w",), "there: argument -w/--workers: expected one argument"),
        (("-m", "089"), "there: argument -m/--umask: invalid number value: '089'"),
        (("--acc", "x"), "there: ambiguous option: --acc could match"),
        (("--version",), "uwsgibridge --version"),
        (("-h",), "uwsgibridge run-gunicorn --help"),
    ],
)
def test_wrong_arguments_are_told_with_their_place(arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_arguments(arguments, "there")
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(not HAS_GUNICORN, reason="gunicorn is not installed")
def test_the_table_has_all_settings_of_the_real_gunicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.delenv("PORT", raising=False)
    config = importlib.import_module("gunicorn.config")

    theirs = config.make_settings()
    assert set(SETTINGS) == set(theirs)
    for name, known in SETTINGS.items():
        real = theirs[name]
        assert known.flags == tuple(real.cli or ()), name
        assert (known.flag is Flag.EACH) == (real.action == "append"), name
        assert (known.flag is Flag.ON) == (real.action == "store_true"), name
        assert (known.kind in {Kind.WHOLE, Kind.OCTAL}) == (
            getattr(real.type, "__name__", "") in {"int", "auto_int"}
        ), name
        own = {"chdir", "user", "group", "control_socket", "ssl_version", "http_protocols"}
        if known.kind is not Kind.HOOK and name not in own:
            assert known.default == real.value, name
