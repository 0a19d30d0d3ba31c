"""The table of all options of uWSGI, and the plan that settings become by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Final

from uwsgibridge.migration.nginx_block import SUGGESTED_BIND
from uwsgibridge.migration.plan import Finding, Place, Plan, Setting, Verdict
from uwsgibridge.migration.uwsgi import meaning
from uwsgibridge.migration.uwsgi.option_names import OPTION_NAMES
from uwsgibridge.migration.uwsgi.rows import (
    application,
    beside,
    figures,
    files,
    listening,
    logging,
    processes,
    reading,
)
from uwsgibridge.migration.uwsgi.translation import Row, Translation, text_of

ROWS: Final[tuple[Row, ...]] = (
    *listening.ROWS,
    *application.ROWS,
    *processes.ROWS,
    *logging.ROWS,
    *figures.ROWS,
    *files.ROWS,
    *beside.ROWS,
    *reading.ROWS,
)
ROW_OF: Final[Mapping[str, Row]] = {name: row for row in ROWS for name in row.names}

# Names that are no options of uWSGI, each with the option that their authors meant.
_MEANT: Final[Mapping[str, str]] = {
    "user": "uid",
    "group": "gid",
    "process": "processes",
    "worker": "workers",
    "thread": "threads",
    "exec-pre": "exec-pre-app",
    "exec-before": "exec-pre-app",
    "log-buffering": "log-master-bufsize",
    "script": "wsgi-file",
    "timeout": "harakiri",
}
_CLOSE: Final = 0.8
_SHORT: Final = 2
_SOCKETS: Final = ROW_OF["socket"].names
# Groups whose values are names: of files, users, modules and processes.
_NAMES: Final = frozenset(
    {
        "chown-socket", "chdir", "module", "wsgi-file", "callable", "pythonpath", "virtualenv", "import", "uid", "gid",
        "pidfile", "safe-pidfile", "procname-prefix", "daemonize", "logto", "touch-reload", "touch-chain-reload",
        "static-map", "check-static",
    }
)  # fmt: skip

# Families of options without a row of their own: how their names begin, what becomes of them, and why.
_FAMILIES: Final[tuple[tuple[tuple[str, ...], Verdict, str], ...]] = (
    (("http-",), Verdict.PASSED_OVER, "It is about uWSGI's HTTP router; Nginx has that place."),
    (
        ("fastrouter-", "rawrouter-", "sslrouter-", "forkptyrouter-", "snmp-", "multicast-", "glusterfs-timeout", "rados-timeout",
         "geoip-use-disk", "pam-user"),
        Verdict.WARNED,
        "It is about a part of uWSGI that there is nothing like here; without that part it does nothing in uWSGI.",
    ),
    (
        ("fastrouter", "rawrouter", "sslrouter", "forkpty", "subscri", "legion", "zerg", "emperor", "vassal",
         "imperial", "tuntap", "snmp", "multicast"),
        Verdict.REFUSED,
        "Name each server in Nginx's upstream, and start one service for each application.",
    ),
    (
        ("php", "psgi", "perl", "plshell", "rack", "rails", "ruby", "rb", "rvm", "lua", "mono", "jvm", "jwsgi", "ring-",
         "clojure", "pypy", "cgi", "go-", "gccgo", "goroutines", "xslt", "webdav", "pty-", "symcall", "shared-r"),
        Verdict.REFUSED,
        "Only Python applications of the interpreter that starts this server run here.",
    ),
    (
        ("spooler", "mule", "signal", "rpc", "sharedarea", "sqlite", "ldap", "geoip", "glusterfs", "rados", "pam"),
        Verdict.REFUSED,
        "There is nothing like it here; the application or a --sidecar can do it.",
    ),
    (
        ("async", "greenlet", "ugreen", "coroae", "fiber", "stackless", "tornado", "asyncio"),
        Verdict.REFUSED,
        "There are no green threads here: write threads = N, or serve an ASGI application.",
    ),
    (
        ("hook-", "exec-", "call-", "mount-", "umount-", "worker-exec", "touch-exec", "touch-signal"),
        Verdict.REFUSED,
        "Of hooks there are --on-start, --on-ready, --on-fork and --on-worker-exit.",
    ),
    (
        ("final-route", "error-route", "response-route", "route"),
        Verdict.REFUSED,
        "Write it in Nginx: location, rewrite, return, add_header.",
    ),
    (
        ("ssl-", "sni", "https"),
        Verdict.REFUSED,
        "Nginx speaks TLS to clients.",
    ),
)  # fmt: skip


def make_plan(
    settings: Sequence[Setting],
    *,
    start: str,
    is_root: bool,
    ignored: Sequence[str] = (),
    findings: Sequence[Finding] = (),
) -> Plan:
    """Say what settings of uWSGI become.

    Args:
        settings: in the order in which uWSGI applies them.
        start: the directory that the process was started in.
        is_root: whether the process may change its user.
        ignored: names of options that are left out (``--ignore``).
        findings: what the reading of the settings has found.

    Returns:
        The plan. Where it has findings of `Verdict.REFUSED`, it must not be started.
    """
    wanted = [it for it in settings if not _is_ignored(it.name, ignored)]
    directory = _directory(wanted, start)
    translation = Translation(wanted, start=start, directory=directory, is_root=is_root)
    for setting in settings:
        if _is_ignored(setting.name, ignored):
            translation.pass_over(setting, "--ignore leaves it out.", setting.name)
    by_row: dict[str, list[Setting]] = {}
    for setting in wanted:
        row = ROW_OF.get(setting.name)
        if row is None:
            _judge_unknown(translation, setting)
        else:
            by_row.setdefault(row.group, []).append(setting)
    for row in ROWS:
        if row.group in by_row:
            row.translate(translation, row, by_row[row.group])
    _judge_comments(translation)
    _fill_defaults(translation)
    listening.fill_socket_mode(translation)
    _judge_absence(translation)
    plan = translation.plan
    plan.findings += [
        replace(it, verdict=Verdict.WARNED) if it.group in ignored else it
        for it in findings
        if not _is_ignored(it.setting.name, ignored)
    ]
    plan.findings = [_under_its_own_name(it) for it in plan.findings]
    order = {id(setting): index for index, setting in enumerate(settings)}
    plan.findings.sort(key=lambda it: order.get(id(it.setting), len(order)))
    return plan


def _is_ignored(name: str, ignored: Sequence[str]) -> bool:
    row = ROW_OF.get(name)
    return name in ignored or (row is not None and any(it in ignored for it in row.names))


def _under_its_own_name(finding: Finding) -> Finding:
    """Have a message say ``--ignore`` with the name that the line has, and not with another one of the same row."""
    row = ROW_OF.get(finding.setting.name)
    is_of_its_row = row is not None and row.group == finding.group
    return replace(finding, group=finding.setting.name) if is_of_its_row else finding


def _directory(settings: Sequence[Setting], start: str) -> str:
    last = next((it for it in reversed(settings) if it.name == "chdir"), None)
    return start if last is None else meaning.path(text_of(last), start)


def _judge_unknown(translation: Translation, setting: Setting) -> None:
    name = setting.name
    if name in OPTION_NAMES:
        verdict, text = _family(name)
        translation.find(verdict, setting, text, name)
    elif translation.is_on("strict"):
        translation.refuse(setting, "uWSGI has no such option, and strict is on.", name)
    elif setting.is_named:
        pass  # the reading has said it
    elif meant := _meant(name):
        translation.warn(
            setting,
            f"uWSGI has no such option and ignores it, and so does this server: did you mean {meant}?",
            name,
        )
    else:
        translation.pass_over(
            setting,
            "uWSGI has no such option: the line is a placeholder, or a value for the application.",
            name,
        )


def _judge_comments(translation: Translation) -> None:
    """Warn of what its author took for a comment, where it is a part of a name that nothing else would complain about."""
    for setting in translation.settings:
        row = ROW_OF.get(setting.name)
        if row is not None and row.group in _NAMES and meaning.has_comment(setting.value):
            translation.warn(
                setting,
                f"uWSGI has no comments behind values: {setting.value!r} is the whole value.",
                row.group,
            )


def _family(name: str) -> tuple[Verdict, str]:
    for beginnings, verdict, text in _FAMILIES:
        if name.startswith(beginnings):
            return verdict, text
    return Verdict.WARNED, "There is nothing like it here, and it is left out."


def _meant(name: str) -> str | None:
    if name in _MEANT:
        return _MEANT[name]
    # Nobody who writes app means pp.
    candidates = [it for it in ROW_OF if len(it) > _SHORT]
    close = get_close_matches(name.lower().replace("_", "-"), candidates, n=1, cutoff=_CLOSE)
    return close[0] if close else None


def _judge_absence(translation: Translation) -> None:
    """Say where a configuration names no socket; a place that passes one by systemd needs none."""
    plan = translation.plan
    if translation.last(*_SOCKETS) is None and not plan.http:
        translation.warn(
            _absent("socket"),
            "uWSGI would not start without a socket. This server listens on the sockets that systemd passes, else on "
            f"{SUGGESTED_BIND}.",
            "socket",
        )


def _fill_defaults(translation: Translation) -> None:
    """Set what uWSGI does where nothing is written, as far as it changes what is served."""
    values = translation.plan.values
    if "workers" not in values:
        translation.map(_absent("processes"), "processes", workers=1)
    if "threads" not in values:
        translation.map(_absent("threads"), "threads", threads=1)
    if not translation.is_on("lazy-apps", "lazy"):
        translation.map(_absent("lazy-apps"), "lazy-apps", preload=True)
    if not translation.is_on("disable-logging", "L") and not values.get("access_log"):
        translation.map(_absent("disable-logging"), "disable-logging", access_log=True)


def _absent(name: str) -> Setting:
    """Give what stands for a line that is not there, and whose absence means something."""
    return Setting(f"no {name} line", None, Place("by default"))
