"""The table of options: every value is checked, once, and what is refused is named."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from uwsgibridge.config import settings as table
from uwsgibridge.config.mounts import parse_mount, parse_offload, parse_prefix
from uwsgibridge.config.options import Kind, Option, option_name
from uwsgibridge.config.settings import DEFAULT_BIND, OPTIONS, Settings
from uwsgibridge.errors import SettingsError

NUMBERS = [name for name, option in OPTIONS.items() if option.kind.is_number]
# The annotation of a field, which mypy holds, and the kind of its row, which decides.
TYPES = {
    Kind.WHOLE: "int",
    Kind.BYTES: "int",
    Kind.SECONDS: "float",
    Kind.FLAG: "bool",
    Kind.TEXT: "str",
    Kind.TEXTS: "tuple[str, ...]",
}
MAY_BE_ZERO = {
    "max_body_bytes",  # no limit
    "request_timeout_seconds",  # no deadline
    "request_interrupt_seconds",  # no interruption
    "websocket_first_sign_seconds",
    "wsgi_websockets",
    "websocket_ping_seconds",  # none
    "loop_block_warning_seconds",
    "slow_request_seconds",
    "tracemalloc",
    "switch_interval_seconds",  # Python's own
    "accept_margin",
    "prometheus_multiproc_gauges",  # none are kept
    "graceful_timeout_seconds",
    "drain_delay_seconds",  # none
    "stream_drain_seconds",
    "linger_seconds",
    "otel_flush_seconds",
    "workers",  # no supervisor
    "workers_min",
    "workers_max",
    "heartbeat_timeout_seconds",
    "max_requests",
    "max_requests_jitter",
    "worker_lifetime_seconds",
    "worker_lifetime_jitter_seconds",
    "max_rss_bytes",
    "max_rss_hard_bytes",
    "worker_oom_score",
    "max_queue_seconds",  # no limit
    "access_log_slow_seconds",  # no such condition
}


def settings_with(name: str, value: object) -> Settings:
    values: dict[str, Any] = {name: value}
    return Settings(**values)


def test_the_defaults_are_accepted() -> None:
    settings = Settings()
    assert settings.bind == (DEFAULT_BIND,) == ("127.0.0.1:3031",)
    assert settings.max_vars_bytes == 65_535
    assert settings.max_vars == 1000
    assert settings.max_body_bytes == 0
    assert settings.threads == 8
    assert settings.body_timeout_seconds == settings.write_timeout_seconds == 60


def test_it_is_frozen() -> None:
    settings = Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.threads = 3  # type: ignore[misc] # that is the point


@pytest.mark.parametrize(("name", "option"), OPTIONS.items())
def test_each_row_can_be_shown_to_a_person(name: str, option: Option) -> None:
    assert option.help.endswith(".")
    assert option.help[0].isupper()
    assert option.section
    # What it takes where it stands for itself, and what 0 means where it is no number of anything.
    if option.kind is Kind.SECONDS:
        assert "econds" in option.help
    if option.kind is Kind.BYTES:
        assert "ytes" in option.help
    if option.kind.is_number and option.least == 0:
        assert re.search(r"\b0 ", option.help), name


@pytest.mark.parametrize(("name", "option"), OPTIONS.items())
def test_help_does_not_go_on_from_another_row(name: str, option: Option) -> None:
    going_on = r"(How long )?(that|this|it|they|the same|the others|up to so (many|much) more)\b"
    assert not re.match(going_on, option.help, re.IGNORECASE), name
    assert not option.help.endswith("so are the others."), name


def test_each_kind_has_the_type_of_its_field() -> None:
    for field in dataclasses.fields(Settings):
        option = OPTIONS[field.name]
        if option.kind is Kind.CHOICE:
            assert get_args(getattr(table, str(field.type))) == option.choices
        else:
            assert field.type == TYPES[option.kind]


def test_what_is_for_one_interface_says_so() -> None:
    assert OPTIONS["threads"].description.endswith(". WSGI only.")
    assert OPTIONS["loop"].description.endswith(". ASGI only.")
    assert OPTIONS["max_body_bytes"].description == OPTIONS["max_body_bytes"].help


@pytest.mark.parametrize(
    "name", [name for name, option in OPTIONS.items() if option.needs_supervisor]
)
def test_what_needs_a_supervisor(name: str) -> None:
    values: dict[str, Any] = {
        name: {Kind.FLAG: True, Kind.TEXTS: ("file",)}.get(OPTIONS[name].kind, 1)
    }
    assert getattr(Settings(workers=1, **values), name)
    with pytest.raises(SettingsError, match=f"^{option_name(name)} needs a supervisor"):
        Settings(workers=0, **values)


def test_names_have_their_units() -> None:
    for name, option in OPTIONS.items():
        assert (option.kind is Kind.SECONDS) == name.endswith("_seconds")
        assert (option.kind is Kind.BYTES) == name.endswith("_bytes")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"status_bind": "nowhere"}, "--status-bind: 'nowhere' is not an address"),
        ({"status_bind": DEFAULT_BIND}, "--status-bind 127.0.0.1:3031: another option has"),
        ({"status_bind": "unix:/s", "uwsgi_stats": "unix:/s"}, "unix:/s: another option has"),
        ({"statsd_host": "fd://3"}, "--statsd-host 'fd://3' can't be sent to"),
        ({"statsd_host": "127.0.0.1:0"}, "--statsd-host '127.0.0.1:0' can't be sent to"),
        ({"statsd_host": "localhost"}, "--statsd-host: 'localhost' is not an address"),
        ({"statsd_prefix": "a|b"}, "--statsd-prefix 'a|b' has more than letters"),
        ({"statsd_tags": "a:b,,c"}, "--statsd-tags: '' is no tag"),
        ({"statsd_tags": "a|b"}, "--statsd-tags: 'a|b' is no tag"),
        ({"statsd_tags": "a", "statsd_format": "plain"}, "--statsd-tags are dogstatsd's"),
    ],
)
def test_what_can_not_be_published_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(**values)
    assert told in str(caught.value)


def test_free_ports_and_descriptors_may_be_named_twice() -> None:
    """Workers have descriptors in the place of the addresses, which may have the number of a further one."""
    Settings(bind=("fd://3",), status_bind="fd://3")
    Settings(bind=("127.0.0.1:0",), status_bind="127.0.0.1:0", uwsgi_stats="127.0.0.1:0")


def test_option_names() -> None:
    assert option_name("max_vars") == "--max-vars"
    assert option_name("bind") == "--bind"


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_has_a_least_value(name: str) -> None:
    if name in MAY_BE_ZERO:
        assert getattr(settings_with(name, 0), name) == 0
    else:
        with pytest.raises(SettingsError, match=f"^{option_name(name)} 0 "):
            settings_with(name, 0)
    with pytest.raises(SettingsError, match=f"^{option_name(name)} -1 "):
        settings_with(name, -1)
    assert getattr(settings_with(name, 1), name) == 1


@pytest.mark.parametrize("name", [it for it in NUMBERS if OPTIONS[it].kind is Kind.SECONDS])
def test_seconds_are_finite(name: str) -> None:
    assert getattr(settings_with(name, 0.5), name) == 0.5
    for value in (math.inf, -math.inf, math.nan):
        with pytest.raises(SettingsError, match=f"^{option_name(name)} "):
            settings_with(name, value)


@pytest.mark.parametrize("text", ["/api", "/api=", "/api=0", "/api=-1", "/api=x", "/api=1000000"])
def test_a_limit_of_a_path_has_a_number(text: str) -> None:
    with pytest.raises(
        SettingsError, match=rf"^--mount-limit '{text}' is not of the form /prefix=20"
    ):
        Settings(mount_limit=(text,))


def test_a_limit_of_a_path_is_given_once() -> None:
    assert Settings(mount_limit=("/=1", "/api=2")).mount_limit == ("/=1", "/api=2")
    for twice, named in ((("/api=1", "/api/=2"), "/api"), (("/=1", "/=1"), "/")):
        with pytest.raises(SettingsError, match=f"^--mount-limit names {named} twice$"):
            Settings(mount_limit=twice)
    with pytest.raises(SettingsError, match=r"write the prefix as '/api' [(]--mount-limit[)]$"):
        Settings(mount_limit=("/api?x=1",))


@pytest.mark.parametrize("text", ["", "healthz", "/a//b", "/a/..", "/up?x=1"])
def test_a_path_of_a_health_check_is_one_that_nginx_passes_on(text: str) -> None:
    assert Settings(health_path=("/", "/up/")).health_path == ("/", "/up/")
    with pytest.raises(SettingsError, match=r"^--health-path .* is no path that Nginx passes on"):
        Settings(health_path=(text,))


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.choices])
def test_a_choice_is_one_of_those(name: str) -> None:
    for value in OPTIONS[name].choices:
        assert getattr(settings_with(name, value), name) == value
    with pytest.raises(SettingsError) as caught:
        settings_with(name, "other")
    choices = ", ".join(OPTIONS[name].choices)
    assert str(caught.value) == f"{option_name(name)} 'other' is none of {choices}"


def test_the_choices_are_those_of_the_command_line() -> None:
    assert OPTIONS["interface"].choices == ("auto", "wsgi", "asgi")
    assert OPTIONS["loop"].choices == ("auto", "asyncio", "uvloop", "trio")
    assert OPTIONS["log_format"].choices == ("auto", "text", "json")


class TestBind:
    def test_several_addresses_may_be_bound(self) -> None:
        bind = ("unix:/run/app.sock", "127.0.0.1:3031", "[::1]:3031", "fd://3")
        assert Settings(bind=bind).bind == bind

    def test_no_address_is_refused(self) -> None:
        with pytest.raises(SettingsError, match=r"^--bind names no address$"):
            Settings(bind=())

    def test_one_that_is_no_address(self) -> None:
        with pytest.raises(SettingsError, match=r"^--bind: '/run/app.sock' is not an address"):
            Settings(bind=("127.0.0.1:1", "/run/app.sock"))

    def test_a_text_is_not_taken_for_its_letters(self) -> None:
        text: Any = "127.0.0.1:3031"
        with pytest.raises(SettingsError, match=r"^--bind"):
            Settings(bind=text)


@pytest.mark.parametrize("mode", ["0660", "660", "0000", "777"])
def test_socket_modes_are_taken(mode: str) -> None:
    assert Settings(socket_mode=mode).socket_mode == mode


@pytest.mark.parametrize("mode", ["", "0680", "rw-rw----", "0o660", "1660", "66", "00660", "660\n"])
def test_what_is_no_socket_mode(mode: str) -> None:
    with pytest.raises(SettingsError, match=r"^--socket-mode .* is not octal, such as 0660$"):
        Settings(socket_mode=mode)


def test_the_format_limits_the_vars() -> None:
    assert Settings(max_vars_bytes=65_535).max_vars_bytes == 65_535
    with pytest.raises(SettingsError, match=r"^--max-vars-bytes 65536: the format holds 65535$"):
        Settings(max_vars_bytes=65_536)


class TestMounts:
    @pytest.mark.parametrize(
        ("text", "prefix", "app"),
        [
            ("/api=api:app", "/api", "api:app"),
            ("/api/=api:app", "/api", "api:app"),
            ("/a/b=api:app", "/a/b", "api:app"),
            ("/=api:app", "", "api:app"),
            ("/a=b=c", "/a", "b=c"),
            ("/büro=api:app", "/büro", "api:app"),
        ],
    )
    def test_prefix_and_application_are_split(self, text: str, prefix: str, app: str) -> None:
        assert parse_mount(text) == (prefix, app)
        assert Settings(mount=(text,)).mount == (text,)

    @pytest.mark.parametrize(
        "text", ["", "/", "=", "/api", "/api=", "api", "app:/x", "=app", "api=app", "app:/x=y"]
    )
    def test_a_mount_of_another_form_is_refused(self, text: str) -> None:
        with pytest.raises(SettingsError, match="--mount") as caught:
            parse_mount(text)
        with pytest.raises(SettingsError) as caught_in_the_table:
            Settings(mount=("/ok=app", text))
        assert str(caught_in_the_table.value) == str(caught.value)

    @pytest.mark.parametrize(
        ("text", "prefix"), [("/", ""), ("/api", "/api"), ("/api/", "/api"), ("/a//", "/a")]
    )
    def test_a_prefix_loses_its_slash(self, text: str, prefix: str) -> None:
        assert parse_prefix(text) == prefix

    @pytest.mark.parametrize(
        "prefix",
        ["/.well-known", "/a.b", "/...", "/a..", "/100%", "/a%b", "/a b", "/a:b", "/büro/é"],
    )
    def test_a_prefix_that_looks_odd(self, prefix: str) -> None:
        assert parse_prefix(prefix) == prefix

    @pytest.mark.parametrize(
        ("text", "meant"),
        [
            ("//a", "/a"),
            ("/a//b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/.", "/"),
            ("/..", "/"),
            ("/a?x", "/a"),
            ("/a?x#y", "/a"),
            ("/a#x", "/a"),
            ("/caf%C3%A9", "/café"),
            ("/caf%c3%a9/", "/café"),
            ("/%2e%2E/a", "/a"),
        ],
    )
    def test_what_no_path_begins_with(self, text: str, meant: str) -> None:
        with pytest.raises(SettingsError, match="--mount") as caught:
            parse_mount(f"{text}=api:app")
        assert repr(text) in str(caught.value)
        assert f"write the prefix as {meant!r}" in str(caught.value)
        assert parse_prefix(meant) == meant.rstrip("/")

    @pytest.mark.parametrize("text", ["", "api", "api/", " /api"])
    def test_what_is_no_prefix(self, text: str) -> None:
        with pytest.raises(SettingsError, match="does not begin with a slash"):
            parse_prefix(text)


class TestOffload:
    def test_url_and_directory_are_split(self, tmp_path: Path) -> None:
        text = f"/protected={tmp_path}"
        assert parse_offload(text) == ("/protected", str(tmp_path))
        assert Settings(offload=(text,)).offload == (text,)

    @pytest.mark.parametrize("url", ["", "/", "//", "protected"])
    def test_an_offload_of_another_form_is_refused(self, tmp_path: Path, url: str) -> None:
        text = f"{url}={tmp_path}"
        with pytest.raises(SettingsError) as caught:
            parse_offload(text)
        assert str(caught.value) == f"--offload {text!r} is not of the form /url=/directory"

    def test_no_directory_is_named(self) -> None:
        with pytest.raises(SettingsError, match="is not of the form /url=/directory"):
            parse_offload("/protected")

    def test_a_missing_directory_is_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.touch()
        for directory in (tmp_path / "missing", file):
            with pytest.raises(SettingsError, match=f"there is no directory '{directory}'"):
                Settings(offload=(f"/protected={directory}",))

    def test_a_directory_that_can_t_be_looked_for_is_refused(self) -> None:
        with pytest.raises(SettingsError, match=r"^--offload .*: "):
            Settings(offload=(f"/protected=/{'a' * 300}",))
