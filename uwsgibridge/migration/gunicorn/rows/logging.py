"""Rows of the log, the access log and figures."""

from __future__ import annotations

import re
from typing import Final

from uwsgibridge.config.access_format import parse_format
from uwsgibridge.config.log_target import parse_log_target
from uwsgibridge.config.options import option_name
from uwsgibridge.config.settings import OPTIONS
from uwsgibridge.errors import SettingsError
from uwsgibridge.migration.gunicorn.given import Given
from uwsgibridge.migration.gunicorn.known_settings import ACCESS_LOG_FORMAT
from uwsgibridge.migration.gunicorn.paths import absolute
from uwsgibridge.migration.gunicorn.translation import Row, Translation, mapped, passed_over, warned
from uwsgibridge.migration.plan import Verdict

_CAPTURED: Final = "--log-file takes standard error; what is printed goes to standard output."

# Files that are the standard streams of a container.
_STREAMS: Final = frozenset(
    {
        "-",
        "/dev/stdout",
        "/dev/stderr",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "/proc/1/fd/1",
        "/proc/1/fd/2",
    }
)
_VARIABLE: Final = re.compile(r"%\([^()]+\)s")
# gunicorn takes any other word for info.
_LEVELS: Final = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "critical": "error",
}


def _access_log(translation: Translation, row: Row, given: Given) -> None:
    del row
    if not given.value:
        translation.pass_over(given, "It is off.")
        return
    values: dict[str, object] = {"access_log": True}
    if given.value not in _STREAMS:
        values["access_log_file"] = absolute(given.value, translation.reading.directory)
    if not translation.is_given("access_log_format"):
        values["access_log_format"] = "combined"
    translation.map(given, **values)


def _access_log_format(translation: Translation, row: Row, given: Given) -> None:
    del row
    if given.value in {None, "", ACCESS_LOG_FORMAT}:
        translation.map(given, access_log_format="combined")
        return
    unknown: list[str] = []

    def replace(found: re.Match[str]) -> str:
        """Give what stands for a variable here: gunicorn writes a dash for one that it does not have."""
        if _why_no_format(found[0]) is None:
            return found[0]
        unknown.append(found[0])
        return "-"

    text = _VARIABLE.sub(replace, given.value)
    if unknown:
        translation.warn(
            given,
            f"There is no {', '.join(dict.fromkeys(unknown))}, and a dash stands in its place; docs/logs.md lists what "
            "there is.",
        )
    why = _why_no_format(text)
    if why is None:
        translation.map(given, access_log_format=text)
    else:
        translation.warn(given, f"The usual lines are written: {why}.")
        translation.map(given, access_log_format="combined")


def _why_no_format(text: str) -> str | None:
    """Say why a text is no format here; None where it is one."""
    try:
        parse_format("access_log_format", text)
    except SettingsError as error:
        return str(error).removeprefix("access_log_format: ")
    return None


def _error_log(translation: Translation, row: Row, given: Given) -> None:
    del row
    if not given.value or given.value in _STREAMS:
        translation.pass_over(given, "The log goes to standard error anyway.")
    else:
        translation.map(given, log_file=absolute(given.value, translation.reading.directory))


def _capture(translation: Translation, row: Row, given: Given) -> None:
    log = translation.value("errorlog")
    if not given.value or not log or log in _STREAMS:
        translation.pass_over(given, "Processes keep standard output and standard error.")
    else:
        translation.warn(given, row.text)


def _level(translation: Translation, row: Row, given: Given) -> None:
    del row
    level = _LEVELS.get(str(given.value).lower())
    if level is None:
        translation.warn(
            given,
            f"gunicorn has no such level, and takes info; its levels are {', '.join(_LEVELS)}.",
        )
    else:
        translation.map(given, log_level=level)


def _configuration(translation: Translation, row: Row, given: Given) -> None:
    del row
    if not given.value:
        translation.pass_over(given, "It is empty.")
        return
    translation.set(
        given,
        "--access-log; before the application is imported, its loggers are configured by this (--on-load)",
        access_log=True,
    )
    translation.warn(
        given,
        "Loggers of the application are configured by this. Lines of this server and its access log keep their own "
        "form: --log-format, --access-log-format.",
    )


def _statsd_host(translation: Translation, row: Row, given: Given) -> None:
    del row
    if not given.value:
        translation.pass_over(given, "It is off.")
        return
    place = str(given.value)
    if place.startswith("unix:"):
        path = place.removeprefix("unix:")
        place = f"unix:{absolute(path.removeprefix('//'), translation.reading.directory)}"
    else:
        place = place.removeprefix("tcp://")
        # gunicorn's default port (validate_statsd_address).
        if ":" not in place.rpartition("]")[2]:
            place = f"{place}:8125"
    if not _is_accepted(translation, given, "statsd_host", place):
        return
    translation.map(given, statsd_host=place)
    translation.warn(
        given,
        "Figures have names of their own, such as uwsgibridge.requests in the place of gunicorn.requests: docs/metrics.md.",
    )


def _statsd_prefix(translation: Translation, row: Row, given: Given) -> None:
    del row
    prefix = str(given.value or "").rstrip(".")
    if not prefix:
        translation.pass_over(given, "It is empty.")
    elif _is_accepted(translation, given, "statsd_prefix", prefix):
        translation.map(given, statsd_prefix=prefix)


def _statsd_tags(translation: Translation, row: Row, given: Given) -> None:
    del row
    tags = ",".join(it.strip() for it in str(given.value or "").split(",") if it.strip())
    if not tags:
        translation.pass_over(given, "It is empty.")
    elif _is_accepted(translation, given, "statsd_tags", tags):
        translation.map(given, statsd_tags=tags)


def _is_accepted(translation: Translation, given: Given, name: str, value: str) -> bool:
    """Check a value of statsd; no request depends on it, so that the service can go on without."""
    try:
        OPTIONS[name].check(option_name(name), value)
    except SettingsError as error:
        translation.warn(given, f"It is left out: {error}.")
        return False
    return True


def _syslog(translation: Translation, row: Row, given: Given) -> None:
    del row
    if not given.value:
        translation.pass_over(given, "It is off.")
        return
    place = _place(str(translation.value("syslog_addr")))
    try:
        parse_log_target("--log-to", place)
    except SettingsError as error:
        translation.warn(given, f"The log goes to standard error alone: {error}.")
        return
    prefix = translation.value("syslog_prefix") or translation.value("proc_name")
    values: dict[str, object] = {"log_to": ("stderr", place)}
    if not translation.value("disable_redirect_access_to_syslog"):
        values["access_log"] = True
    name = f"gunicorn.{prefix}" if prefix else "gunicorn"  # as gunicorn names itself
    try:
        OPTIONS["log_identifier"].check("--log-identifier", name)
    except SettingsError:
        translation.warn(
            given, f"Messages have the name gunicorn alone: {name} is none that syslog takes."
        )
        name = "gunicorn"
    values["log_identifier"] = name
    facility = str(translation.value("syslog_facility")).lower()
    if facility in OPTIONS["syslog_facility"].choices:
        values["syslog_facility"] = facility
    else:
        translation.warn(
            given, f"Messages have the facility user: {facility} is none for a program."
        )
    translation.map(given, **values)


def _place(address: str) -> str:
    """Write an address of gunicorn's, such as ``udp://localhost:514`` or ``unix:///dev/log#dgram``, as a place of ``--log-to``."""
    scheme, _, where = address.partition("://")
    if scheme == "unix":
        return f"syslog:{where.removesuffix('#dgram')}"
    if scheme == "udp":
        host, colon, port = where.rpartition(":")
        return f"syslog:{host}:{port}" if colon else f"syslog:{where}:514"
    return f"syslog:{address}"


ROWS: Final = (
    *mapped("accesslog", "`--access-log`, `--access-log-file`; `-` is standard error here", _access_log),
    *mapped("access_log_format", "`--access-log-format`", _access_log_format),
    *mapped("errorlog", "`--log-file`", _error_log),
    *mapped("loglevel", "`--log-level`; critical becomes error", _level),
    *mapped("logconfig", "`--on-load`, with `--access-log`: the application's loggers are configured by it", _configuration),
    *mapped("logconfig_dict", "`--on-load`, with `--access-log`: the application's loggers are configured by it", _configuration),
    *mapped("logconfig_json", "`--on-load`, with `--access-log`: the application's loggers are configured by it", _configuration),
    Row(name="capture_output", verdict=Verdict.WARNED, text=_CAPTURED, translate=_capture),
    *passed_over("enable_stdio_inheritance", "Processes keep standard output and standard error."),
    *warned("logger_class",
            "No class of gunicorn writes the log: --log-format and --access-log-format say what its lines are."),
    *mapped("syslog",
            "`--log-to` with the place of syslog_addr beside standard error, `--log-identifier`, `--syslog-facility`, and "
            "`--access-log` unless disable_redirect_access_to_syslog; a warning for TCP", _syslog),
    *passed_over("syslog_addr syslog_prefix syslog_facility disable_redirect_access_to_syslog", "The row of syslog reads it."),
    *mapped("statsd_host", "`--statsd-host`; the names of figures are other ones, see metrics.md", _statsd_host),
    *mapped("statsd_prefix", "`--statsd-prefix`", _statsd_prefix),
    *mapped("dogstatsd_tags", "`--statsd-tags`", _statsd_tags),
    *passed_over("enable_backlog_metric", "The backlog is among the figures anyway."),
)  # fmt: skip
