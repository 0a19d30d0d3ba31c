"""Where the log goes, as the command line has it."""

from __future__ import annotations

import pytest

from uwsgibridge.config.address import TcpAddress, UnixAddress
from uwsgibridge.config.log_target import (
    JournaldTarget,
    LogTarget,
    StandardErrorTarget,
    SyslogTarget,
    parse_log_target,
)
from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("stderr", StandardErrorTarget()),
        ("journald", JournaldTarget()),
        ("syslog", SyslogTarget(UnixAddress("/dev/log"))),
        ("syslog:/run/log", SyslogTarget(UnixAddress("/run/log"))),
        ("syslog:unix:/run/log", SyslogTarget(UnixAddress("/run/log"))),
        ("syslog:logs:514", SyslogTarget(TcpAddress("logs", 514))),
        ("syslog:udp://192.0.2.1:514", SyslogTarget(TcpAddress("192.0.2.1", 514))),
        ("syslog:[2001:db8::1]:514", SyslogTarget(TcpAddress("2001:db8::1", 514))),
    ],
)
def test_places(text: str, target: LogTarget) -> None:
    assert parse_log_target("--log-to", text) == target


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no place for a log; write stderr, journald, syslog"),
        ("stdout", "is no place for a log"),
        ("journald:x", "is no place for a log"),
        ("syslog:", "is no place for a log"),
        ("syslog:fd://3", "is no place for a log"),
        ("syslog:tcp://logs:514", "over UDP or a unix socket"),
        ("syslog:logs", "the port is missing; syslog has 514: syslog:logs:514"),
        ("syslog:logs:0", "port 0"),
        ("syslog:/run/" + "x" * 200, "too long"),
    ],
)
def test_what_is_no_place_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=r"^--log-to") as caught:
        Settings(workers=1, log_to=("stderr", text))
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a[b", "x" * 49, "grün", "a\n"])
def test_an_identifier_that_a_daemon_would_cut_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"^--log-identifier .* is no name for syslog"):
        Settings(workers=1, log_identifier=name)


def test_an_identifier_may_have_what_programs_are_called() -> None:
    assert Settings(workers=1, log_identifier="shop/web-1.2_x").log_identifier
