"""Rows of the log, the access log and figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from uwsgibridge.config.access_format import LOG_VARIABLE, parse_format
from uwsgibridge.config.log_target import parse_log_target
from uwsgibridge.config.options import option_name
from uwsgibridge.config.settings import OPTIONS
from uwsgibridge.errors import SettingsError
from uwsgibridge.migration.argument import as_argument
from uwsgibridge.migration.plan import Setting
from uwsgibridge.migration.uwsgi import meaning
from uwsgibridge.migration.uwsgi.translation import (
    Row,
    Translation,
    count,
    last_of,
    mapped,
    passed_over,
    text_of,
    warned,
)

# A variable of a format, and how the names begin of those that are none of the application's.
_VARIABLE: Final = re.compile(r"%\(([^()]+)\)")
_OTHER_VARIABLES: Final = ("var.", "metric.", "ftime:")

# Plugins of uWSGI: the daemon of the machine, and one at a network address.
_SYSLOG: Final = frozenset({"syslog", "rsyslog"})

# Files that are the standard streams of a container.
_STREAMS: Final = frozenset(
    {
        "/dev/stdout",
        "/dev/stderr",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "/proc/1/fd/1",
        "/proc/1/fd/2",
    }
)


def _log_file(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    # What counts in the end: logto2 is applied after daemonize, and daemonize2 after both; logto is left out beside daemonize.
    after = ("daemonize2",) if last.name == "logto2" else ("daemonize", "daemonize2", "d")
    if (daemonize := translation.last(*after)) is not None:
        translation.pass_over(last, f"uWSGI logs to the file of {daemonize.name}.", row.group)
        return
    _log_to(translation, row, last, text_of(last), translation.start)


def _log_to(
    translation: Translation, row: Row, setting: Setting, value: str, directory: str
) -> None:
    path = meaning.path(value, directory)
    if path in _STREAMS:
        translation.pass_over(setting, "The log goes to standard error anyway.", row.group)
    else:
        translation.map(setting, row.group, log_file=path)


def _logger(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        name, space, where = text_of(setting).partition(" ")
        if space and ":" not in name:
            translation.warn(
                setting,
                f"A named logger gets what log-route sends to it, and there are no routes here: {where} stays as it "
                "is.",
                row.group,
            )
            continue
        kind, _, path = text_of(setting).partition(":")
        if kind == "file":
            _log_to(translation, row, setting, path.partition(",")[0], translation.directory)
        elif kind in {"stdio", "fd"}:
            translation.pass_over(setting, "The log goes to standard error anyway.", row.group)
        elif kind in _SYSLOG:
            # Beside another logger, both have the log.
            has_more = any(_kind_of(it) not in _SYSLOG for it in settings)
            _syslog(
                translation, row, setting, text_of(setting), beside=("stderr",) if has_more else ()
            )
        else:
            translation.warn(
                setting,
                f"There is no {kind} here: the log goes to standard error, which journald, Docker or a log "
                "shipper reads; --log-to has journald and syslog.",
                row.group,
            )


def _kind_of(setting: Setting) -> str:
    return text_of(setting).rpartition(" ")[2].partition(":")[0]


def _syslog(
    translation: Translation,
    row: Row,
    setting: Setting,
    text: str,
    *,
    beside: tuple[str, ...] = (),
    **more: object,
) -> None:
    """Map ``syslog:NAME,FACILITY`` or ``rsyslog:HOST:PORT,NAME``."""
    kind, _, arguments = text.partition(":")
    first, _, second = arguments.partition(",")
    # Both of uWSGI's plugins have this facility.
    place, name, facility = "syslog", first, second or "daemon"
    if kind == "rsyslog":
        place = f"syslog:{first}" if ":" in first else f"syslog:{first}:514"
        name, facility = second.partition(",")[0], "daemon"
    values: dict[str, object] = {"log_identifier": name or "uwsgi", "syslog_facility": facility}
    try:
        parse_log_target("--log-to", place)
        for option, value in values.items():
            OPTIONS[option].check(option_name(option), value)
    except SettingsError as error:
        translation.warn(setting, f"The log goes to standard error alone: {error}.", row.group)
        return
    known = translation.plan.values
    if first_ones := {it: known[it] for it in values if it in known}:
        if first_ones != values:
            told = " ".join(as_argument(it, value) for it, value in first_ones.items())
            translation.warn(
                setting,
                f"All lines have one name and one facility here, those of the first logger: {told}.",
                row.group,
            )
        values = {}
    places = tuple(it for it in (*beside, place) if it not in known.get("log_to", ()))
    if places:
        more["log_to"] = places
    if values or more:
        translation.map(setting, row.group, **values, **more)
    else:
        translation.pass_over(setting, "Another line has the log there already.", row.group)


def _log_syslog(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    name = text_of(last)
    _syslog(translation, row, last, f"syslog:{'' if name in {'', 'true', '1'} else name}")


def _request_logger(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        kind, _, path = text_of(setting).rpartition(" ")[2].partition(":")
        if kind == "file":
            where = meaning.path(path.partition(",")[0], translation.directory)
            if where in _STREAMS:
                translation.map(setting, row.group, access_log=True)
            else:
                translation.map(setting, row.group, access_log=True, access_log_file=where)
        elif kind in {"stdio", "fd"}:
            translation.map(setting, row.group, access_log=True)
        elif kind in _SYSLOG:
            translation.warn(
                setting,
                "All lines go to each place of the log here, those of the access log as well; req-logger = file:PATH has "
                "these alone.",
                row.group,
            )
            _syslog(
                translation,
                row,
                setting,
                text_of(setting).rpartition(" ")[2],
                beside=() if "log_to" in translation.plan.values else ("stderr",),
                access_log=True,
            )
        else:
            translation.warn(
                setting,
                f"There is no {kind} here: the access log goes to standard error.",
                row.group,
            )


def _format(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    unknown: list[str] = []

    def replace(found: re.Match[str]) -> str:
        """Give what stands for a variable here: those that uWSGI does not have are the application's (`uwsgi.set_logvar`)."""
        if _is_format(found[0]):
            return found[0]
        if not found[1].startswith(_OTHER_VARIABLES):
            return f"%({LOG_VARIABLE}{found[1]})"
        unknown.append(found[0])
        return "-"

    text = _VARIABLE.sub(replace, text_of(last))
    if unknown:
        translation.warn(
            last,
            f"There is no {', '.join(dict.fromkeys(unknown))} here, and a dash stands in its place; docs/logs.md lists "
            "what there is.",
            row.group,
        )
    if _is_format(text):
        translation.map(last, row.group, access_log_format=text)
    else:
        translation.warn(
            last,
            "It has no variable that is known here, and the usual lines are written.",
            row.group,
        )


def _is_format(text: str) -> bool:
    try:
        parse_format("log-format", text)
    except SettingsError:
        return False
    return True


def _disabled(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        if meaning.is_true(setting.value):
            translation.pass_over(setting, "It is the default: there is no access log.", row.group)
        else:
            translation.pass_over(setting, "It is off: --access-log.", row.group)


def _statuses(kind: str) -> Row:
    def translate(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
        for setting in settings:
            if not meaning.is_true(setting.value):
                translation.pass_over(setting, "It is off.", row.group)
            elif not translation.is_on("disable-logging", "L"):
                translation.pass_over(setting, "All requests are logged anyway.", row.group)
            else:
                translation.map(setting, row.group, access_log=True, access_log_status=(kind,))

    return mapped(f"log-{kind}", f"`--access-log-status {kind}`, with disable-logging", translate)


def _slow(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    milliseconds = translation.number_of(last, row.group)
    if not translation.is_on("disable-logging", "L"):
        translation.pass_over(last, "All requests are logged anyway.", row.group)
    elif milliseconds > 0:
        translation.map(
            last, row.group, access_log=True, access_log_slow_seconds=milliseconds / 1000
        )
    else:
        translation.pass_over(last, "It sets no limit.", row.group)


ROWS: Final = (
    mapped("logto logto2", "`--log-file`; relative to the start directory", _log_file),
    mapped("logger", "`--log-file` for `file:PATH`; `--log-to`, `--log-identifier` and `--syslog-facility` for `syslog:` and "
           "`rsyslog:`; a warning for others", _logger),
    mapped("log-syslog", "`--log-to syslog`, `--log-identifier`, `--syslog-facility daemon`", _log_syslog),
    mapped("req-logger logger-req", "`--access-log`, `--access-log-file`; `--log-to` for `syslog:` and `rsyslog:`", _request_logger),
    mapped("log-format logformat", "`--access-log-format`", _format),
    mapped("disable-logging L", "the default; without it `--access-log`", _disabled),
    _statuses("4xx"),
    _statuses("5xx"),
    mapped("log-slow", "`--access-log-slow-seconds`, with disable-logging", _slow),
    count("log-master-bufsize", "log_buffer_bytes"),
    passed_over("log-master log-master-stream log-master-req-stream threaded-logger log-reopen",
                "All processes write to one log."),
    passed_over("log-date logdate log-micros logformat-strftime log-format-strftime", "Each line of the log has the time."),
    passed_over("memory-report m", "uwsgibridge ctl status shows each worker's memory."),
    passed_over("show-config log-prefix", "--explain shows what each line becomes."),
    passed_over("ignore-sigpipe ignore-write-errors disable-write-exception write-errors-tolerance "
                "write-errors-exception-only",
                "A client that has left is no error: it is a line of the log at level info."),
    passed_over("log-x-forwarded-for", "Nginx says who the client is: uwsgi_param REMOTE_ADDR."),
    passed_over("log-drain", "It changes nothing of what is served."),
    warned("log-maxsize log-backupname logfile-chown logfile-chmod log-truncate",
           "logrotate does that: it moves the file and sends SIGUSR1, see docs/logs.md."),
    warned("touch-logreopen touch-logrotate log-zero log-big log-sendfile log-ioerror",
           "There is no such filter or trigger here; SIGUSR1 opens the log anew."),
    warned("log-route log-req-route log-encoder log-req-encoder log-filter",
           "There are no routes and encoders of the log here; --log-format json is for log shippers."),
    warned("log-socket log-zeromq rsyslog-packet-size rsyslog-split-messages",
           "The log goes to standard error, which journald, Docker or a log shipper reads, or by --log-to to journald or syslog."),
    warned("alarm alarm-cheap alarm-freq alarm-fd alarm-segfault segfault-alarm alarm-backlog backlog-alarm "
           "lq-alarm alarm-lq listen-queue-alarm alarm-listen-queue log-alarm alarm-log not-alarm-log not-log-alarm "
           "alarm-list alarms-list alarm-msg-size",
           "There are no alarms here; the log has an event for each of these, with its level."),
    warned("master-fifo", "uwsgibridge ctl steers a running server: reload, scale, stop."),
    warned("logger-list loggers-list", "It lists what uWSGI has built in."),
)  # fmt: skip
