"""Rows of processes: how many there are, how they begin, are replaced and end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from uwsgibridge.migration.plan import Setting
from uwsgibridge.migration.uwsgi import meaning
from uwsgibridge.migration.uwsgi.translation import (
    MIB,
    Row,
    Translation,
    count,
    last_of,
    mapped,
    passed_over,
    refused,
    text_of,
    texts,
    tunes,
    warned,
)

# Green threads are cheap and threads are not: more of them than this wait for each other.
_MOST_THREADS: Final = 100


def _workers(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    found = translation.number_of(last, row.group)
    if found > 0 and "workers_max" in translation.plan.values:
        translation.find_mapped(last, row.group, f"--workers-max {found}, see cheaper")
    elif found < 1:
        translation.refuse(
            last,
            f"uWSGI reads {last.value!r} as {found} workers and serves nothing; write a number, or %k for one for "
            "each processor.",
            row.group,
        )
    else:
        translation.map(last, row.group, workers=found)


def _threads(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    translation.map(last, row.group, threads=max(translation.number_of(last, row.group), 1))


def _green(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    if translation.last("threads") is not None:
        translation.warn(
            last, "There are no green threads here: the threads line counts.", row.group
        )
        return
    threads = min(max(translation.number_of(last, row.group), 1), _MOST_THREADS)
    translation.warn(
        last,
        f"There are no green threads here: {threads} threads run the application instead, which must not patch the "
        "standard library; --threads sets another number.",
        row.group,
    )
    translation.map(last, row.group, threads=threads)


def _lazy(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        on = meaning.is_true(setting.value)
        text = "Each worker loads the application by itself." if on else "It is off: --preload."
        translation.pass_over(setting, text, row.group)


def _user(field: str) -> Row:
    def translate(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
        last = last_of(translation, row, settings)
        if not translation.is_root:
            translation.pass_over(
                last,
                "Only root can change it, and this process is not root's; uWSGI goes on, too.",
                row.group,
            )
        else:
            translation.map(last, row.group, **{field: text_of(last)})

    return mapped("uid" if field == "user" else "gid", f"`--{field}`", translate)


def _cheaper(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    least = translation.number_of(last, row.group)
    processes = translation.last("processes", "workers", "p")
    most = meaning.number(processes.value) if processes else 1
    if least <= 0:
        translation.pass_over(last, "It is off.", row.group)
        return
    if least >= most:
        translation.refuse(
            last,
            f"It must be below processes, which is {most}; uWSGI does not start with this.",
            row.group,
        )
        return
    initial = translation.last("cheaper-initial")
    first = min(max(meaning.number(initial.value), least), most) if initial else least
    translation.map(last, row.group, workers=first, workers_min=least, workers_max=most)


def _rss(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    size = translation.number_of(last, row.group)
    hard = translation.last("evil-reload-on-rss")
    if size < 1:
        translation.pass_over(last, "It sets no limit.", row.group)
    elif hard is not None and 0 < meaning.number(hard.value) <= size:
        translation.warn(
            last,
            "evil-reload-on-rss kills a worker before it gets that large, so that this never comes.",
            row.group,
        )
    else:
        translation.map(last, row.group, max_rss_bytes=size * MIB)


def _absolute(translation: Translation, value: str) -> str:
    return meaning.path(value, translation.directory)


def _chain(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        path = meaning.path(text_of(setting), translation.directory)
        translation.map(setting, row.group, touch_reload=(path,), reload_mode="chain")


def _autoreload(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    if last.value is not None and meaning.number(last.value) <= 0 and last.value.lower() != "true":
        translation.pass_over(last, "It is off.", row.group)
    else:
        translation.map(last, row.group, reload=True)


def _pid_file(*, before_chdir: bool) -> Row:
    def translate(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
        last = last_of(translation, row, settings)
        directory = translation.start if before_chdir else translation.directory
        translation.map(last, row.group, pid_file=meaning.path(text_of(last), directory))

    names = "pidfile" if before_chdir else "safe-pidfile pidfile2 safe-pidfile2"
    where = "the start directory" if before_chdir else "chdir"
    return mapped(names, f"`--pid-file`; relative to {where}", translate)


def _title(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    translation.map(last, row.group, title=text_of(last).strip())


def _daemonize(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    path = meaning.path(text_of(last), translation.start)
    goes_elsewhere = translation.last("logger", "logto2") is not None
    translation.warn(
        last,
        "The process stays in the foreground, where a service manager (systemd's Type=exec, Docker) has it"
        + ("." if goes_elsewhere else f"; the log goes to {path}."),
        row.group,
    )
    translation.map(last, row.group, log_file=path)


ROWS: Final = (
    # Before processes, which is a bound of it then.
    mapped("cheaper", "`--workers-min`, with `--workers-max` of processes", _cheaper),
    mapped("processes workers p", "`--workers`; without it 1", _workers),
    mapped("threads", "`--threads`; without it 1", _threads),
    mapped("gevent", "`--threads`, with a warning", _green),
    passed_over("cheaper-initial", "It says how many workers there are at first (--workers), see cheaper."),
    mapped("lazy-apps lazy", "the default; without it `--preload`", _lazy),
    count("max-requests R", "max_requests"),
    count("max-requests-delta", "max_requests_jitter"),
    count("max-worker-lifetime", "worker_lifetime_seconds"),
    count("max-worker-lifetime-delta", "worker_lifetime_jitter_seconds"),
    mapped("reload-on-rss", "`--max-rss-bytes` (uWSGI counts in MiB)", _rss),
    count("evil-reload-on-rss", "max_rss_hard_bytes", factor=MIB),
    count("harakiri t", "request_timeout_seconds"),
    count("reload-mercy worker-reload-mercy", "graceful_timeout_seconds"),
    texts("touch-reload fs-reload fs-brutal-reload touch-workers-reload", "touch_reload", _absolute),
    mapped("touch-chain-reload", "`--touch-reload` with `--reload-mode chain`", _chain),
    mapped(
        "py-autoreload py-auto-reload python-autoreload python-auto-reload", "`--reload`", _autoreload
    ),
    _user("user"),
    _user("group"),
    _pid_file(before_chdir=True),
    _pid_file(before_chdir=False),
    mapped("procname-prefix procname-prefix-spaced procname procname-append procname-master", "`--title`", _title),
    mapped("daemonize daemonize2 d", "the foreground, with `--log-file`; with a warning", _daemonize),
    passed_over("gevent-monkey-patch gevent-early-monkey-patch gevent-wait-for-hub", "Threads need no patched standard library."),
    refused("loop", "There are no green threads here: write threads = N, or serve an ASGI application."),
    passed_over("master M", "There always is a supervisor."),
    passed_over("enable-threads T single-interpreter i", "It is always so."),
    passed_over("vacuum", "Sockets and the pid file are removed at the end."),
    passed_over("die-on-term no-orphans exit-on-reload", "It is always so."),
    passed_over("vassal-sos-backlog vassal-sos", "It asks an emperor for help; there is none."),
    passed_over("need-app", "It is always so: without an application there is no start."),
    passed_over("thunder-lock", "The kernel spreads connections over the workers."),
    passed_over("harakiri-verbose", "The stack of a request that takes too long is always logged."),
    passed_over("auto-procname", "Each process shows its role."),
    passed_over(
        "min-worker-lifetime", "A worker of any age may be replaced, one at a time."
    ),
    passed_over(
        "close-on-exec close-on-exec2 max-fd threads-stacksize thread-stacksize thread-stack-size threads-stack-size no-threads-wait skip-atexit skip-atexit-teardown no-initgroups immediate-uid immediate-gid master-as-root drop-after-init drop-after-apps force-cwd reaper r mem-collector-freq ksm",
        "The default is right here.",
    ),
    warned("reload-on-as evil-reload-on-as", "Address space says little of memory; --max-rss-bytes limits what is used."),
    warned("limit-as", "Address space says little of memory; limit it by MemoryMax= of systemd or by the container."),
    warned("add-gid", "A process has all groups of the user of --user; SupplementaryGroups= of systemd gives it others."),
    passed_over("max-vars", "A request may have as many vars as --max-vars says."),
    warned("limit-nproc", "Limit it by TasksMax= of systemd or by the container."),
    warned(
        "cheaper-step cheaper-algo cheaper-overload cheaper-list cheaper-algo-list cheaper-rss-limit-soft "
        "cheaper-rss-limit-hard cheaper-busyness-max cheaper-busyness-min cheaper-busyness-multiplier "
        "cheaper-busyness-penalty cheaper-busyness-verbose cheaper-busyness-backlog-alert",
        "Workers are added while requests wait (--scale-up-seconds), and taken away while idle (--scale-idle-seconds).",
    ),
    warned("idle cheap die-on-idle", "Workers stay while there is nothing to do."),
    warned("cpu-affinity", "The system places the processes; CPUAffinity= of systemd limits them."),
    warned("harakiri-graceful-timeout harakiri-graceful-signal harakiri-queue-threshold harakiri-no-arh",
           "A request that takes too long gets an exception first, and --request-interrupt-seconds later its thread is given up."),
    refused("mule mules farm", 'A process beside the workers is --sidecar "COMMAND" here; it has no messages of uWSGI.'),
    tunes("mules", "mule-harakiri mule-msg-size mule-reload-mercy touch-mules-reload hook-as-mule"),
    refused("spooler spooler-external Q", "There is no spooler here; a queue such as Celery or RQ does that, as a --sidecar."),
    tunes("a spooler", "spooler-processes spooler-ordered spooler-python-import spooler-import spooler-py-import spooler-pyimport "
          "spooler-chdir spooler-freq spooler-frequency spooler-harakiri spooler-max-tasks spooler-quiet touch-spoolers-reload"),
    refused("emperor zerg zerg-server zerg-pool",
            "One service for each application does that here: systemd's template units, or a container each."),
    tunes("an emperor",
          "emperor-broodlord emperor-cap emperor-curse-tolerance emperor-extra-ext emperor-extra-extension emperor-freq "
          "emperor-graceful-shutdown emperor-magic-exec emperor-max-throttle emperor-no-blacklist emperor-nofollow "
          "emperor-on-demand-dir emperor-on-demand-directory emperor-on-demand-exec emperor-on-demand-ext "
          "emperor-on-demand-extension emperor-pidfile emperor-procname emperor-proxy-socket emperor-required-heartbeat "
          "emperor-stats emperor-stats-server emperor-throttle emperor-tyrant emperor-tyrant-nofollow emperor-use-clone "
          "emperor-wrapper emperor-wrapper-fallback emperor-wrapper-override vassal-cap vassal-set vassals-cap "
          "vassals-include vassals-include-before vassals-inherit vassals-inherit-before vassals-set vassals-start-hook "
          "vassals-stop-hook imperial-monitor-list imperial-monitors-list hook-emperor-start hook-emperor-stop "
          "hook-emperor-reload hook-emperor-lost hook-as-emperor hook-as-vassal exec-as-emperor exec-as-vassal "
          "call-as-emperor call-as-emperor1 call-as-emperor2 call-as-emperor4 call-as-vassal call-as-vassal1 "
          "call-as-vassal3 mount-as-emperor mount-as-vassal umount-as-emperor umount-as-vassal"),
    refused("re-fork refork re-fork-as-root refork-as-root re-fork-post-jail refork-post-jail map-socket shared-socket undeferred-shared-socket", "Workers are forked from a template, and all of them have all sockets."),
)  # fmt: skip
