"""The table of all settings of gunicorn, and the plan that they become by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Final

from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.gunicorn.given import Given, Reading, default_of
from uwsgibridge.migration.gunicorn.known_settings import SETTINGS
from uwsgibridge.migration.gunicorn.rows import application, hooks, listening, logging, processes
from uwsgibridge.migration.gunicorn.translation import Row, Translation
from uwsgibridge.migration.gunicorn.worker_class import WorkerKind, kind_of
from uwsgibridge.migration.plan import Finding, Plan, Verdict

ROWS: Final[tuple[Row, ...]] = (
    *application.ROWS,
    *listening.ROWS,
    *processes.ROWS,
    *hooks.ROWS,
    *logging.ROWS,
)
ROW_OF: Final[Mapping[str, Row]] = {row.name: row for row in ROWS}

# What gunicorn does where nothing is written, as far as this server would do something else.
_DEFAULTS: Final = ("bind", "workers", "threads", "timeout")

# Names that are no settings, each with the one that their authors meant. Flags of the command line join them.
_MEANT: Final[Mapping[str, str]] = {
    **{
        flag.removeprefix("--").replace("-", "_"): known.name
        for known in SETTINGS.values()
        for flag in known.flags
        if flag.startswith("--")
    },
    "log_file": "errorlog",
    "error_log": "errorlog",
    "access_log": "accesslog",
    "host": "bind",
    "listen": "bind",
    "uid": "user",
    "gid": "group",
    "processes": "workers",
    "keep_alive": "keepalive",
    "preload": "preload_app",
}
_CLOSE: Final = 0.8
# What a plan says of these needs the file again, in each worker.
_NEEDED_LATER: Final = (
    "logconfig", "logconfig_dict", "logconfig_json", "loglevel",
    *(row.name for row in hooks.ROWS if row.verdict is Verdict.MAPPED),
)  # fmt: skip


def make_plan(
    reading: Reading, *, ignored: Sequence[str] = (), has_inherited_sockets: bool = False
) -> Plan:
    """Say what settings of gunicorn become.

    Args:
        reading: of the configuration, in its portable form.
        ignored: names of settings that are left out (``--ignore``).
        has_inherited_sockets: whether systemd has opened listening sockets for this process.

    Returns:
        The plan. Where it has findings of `Verdict.REFUSED`, it must not be started.

    Raises:
        ConfigurationError: no application is named.
    """
    left_out = names_left_out(ignored)
    kept = replace(reading, given=tuple(it for it in reading.given if it.name not in left_out))
    threads = kept.value("threads")
    own_kind = kind_of(reading.value("worker_class"), threads)
    kind = kind_of(kept.value("worker_class"), threads)
    if "worker_class" in left_out and own_kind is WorkerKind.GREEN:
        kind = WorkerKind.THREADS
    translation = Translation(kept, kind=kind, has_inherited_sockets=has_inherited_sockets)
    _judge_patches(translation)
    for given in reading.given:
        if given.name in left_out:
            _pass_over_ignored(translation, given, own_kind)
    application.translate_app(translation)
    winners = {it.name: it for it in kept.given}  # the last one of each name
    for given in kept.given:
        if given is not winners[given.name]:
            translation.pass_over(given, f"It is set anew: {winners[given.name].place}.")
    winners |= {name: default_of(name) for name in _DEFAULTS if name not in winners}
    for row in ROWS:
        if row.name in winners:
            row.translate(translation, row, winners[row.name])
    for given in reading.unknown:
        _judge_unknown(translation, given)
    _add_environment(translation, left_out)
    _sort(translation.plan, reading)
    if translation.plan.app is None and "mount" not in translation.plan.values:
        raise ConfigurationError(
            "no application is named: write it as an argument (module:callable), or as wsgi_app in the file"
        )
    return translation.plan


def names_left_out(ignored: Sequence[str]) -> frozenset[str]:
    """Give the names of settings, as in a file, of those that ``--ignore`` names.

    Raises:
        ConfigurationError: gunicorn has no setting of such a name.
    """
    names = frozenset(it.lstrip("-").replace("-", "_") for it in ignored)
    for name in sorted(names - set(SETTINGS)):
        meant = _meant(name)
        hint = f": did you mean {SETTINGS[meant].group}?" if meant else ""
        raise ConfigurationError(f"--ignore {name}: gunicorn has no such setting{hint}")
    return names


def needs_configuration(reading: Reading) -> bool:
    """Whether workers have to read the configuration: for hooks and loggers."""
    values = ((name, reading.value(name)) for name in _NEEDED_LATER)
    return any(value and value != SETTINGS[name].default for name, value in values)


def _pass_over_ignored(translation: Translation, given: Given, kind: WorkerKind) -> None:
    if given.name == "worker_class":
        processes.translate_ignored_class(translation, given, kind)
    else:
        translation.pass_over(given, "--ignore leaves it out.")


def _judge_patches(translation: Translation) -> None:
    library = translation.reading.patched_by
    if library is None:
        return
    source = next(
        (it for it in translation.reading.given if it.place.line), default_of("config")
    ).place.source
    given = Given("config", source, replace(default_of("config").place, source=source))
    translation.refuse(
        given,
        f"The file has {library} replace parts of the standard library (monkey patching), which this server itself "
        "runs on: leave that out, since requests run in threads.",
    )


def _judge_unknown(translation: Translation, given: Given) -> None:
    meant = _meant(given.name.lower())
    if meant is not None:
        translation.warn(
            given,
            f"gunicorn has no setting of this name and passes over it, and so does this server: did you mean {meant}?",
        )


def _meant(name: str) -> str | None:
    close = get_close_matches(name, list(SETTINGS), n=1, cutoff=_CLOSE)
    return _MEANT.get(name) or (close[0] if close else None)


def _add_environment(translation: Translation, left_out: frozenset[str]) -> None:
    """Add what the file has changed beside its settings, and the loggers that applications look for."""
    reading, plan = translation.reading, translation.plan
    plan.environment.update(reading.environment)
    if reading.python_path:
        plan.values["python_path"] = (*plan.values.get("python_path", ()), *reading.python_path)
    if "logger_class" in left_out:
        return
    plan.values["on_load"] = hooks.ON_LOAD if needs_configuration(reading) else hooks.MAKE_LOGGERS
    plan.findings.append(
        Finding(
            Verdict.MAPPED,
            default_of("logger_class").setting,
            "--on-load: it makes the loggers gunicorn.error and gunicorn.access, which applications look for",
            "logger-class",
        )
    )


def _sort(plan: Plan, reading: Reading) -> None:
    """Put the findings into the order of the lines; defaults come last."""
    given = [*reading.given, *reading.unknown, *([reading.app] if reading.app else [])]
    sources = list(dict.fromkeys(it.place.source for it in given))

    def position(finding: Finding) -> tuple[int, int]:
        place = finding.setting.place
        known = place.source in sources
        return (sources.index(place.source) if known else len(sources)), place.line

    plan.findings.sort(key=position)
