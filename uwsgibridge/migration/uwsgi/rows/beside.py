"""Rows of what stands beside requests: hooks, daemons, timers, routing."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from uwsgibridge.config.commands import in_a_shell
from uwsgibridge.migration.plan import Setting, Verdict
from uwsgibridge.migration.uwsgi import meaning
from uwsgibridge.migration.uwsgi.translation import (
    Row,
    Translation,
    mapped,
    passed_over,
    refused,
    text_of,
    tunes,
    warned,
)

# Moments of uWSGI's start that come before chdir.
_BEFORE_CHDIR: Final = ("-asap", "-pre-jail", "-post-jail", "-in-jail", "-as-root", "-as-user")

# Moments that come before uWSGI becomes the user of uid.
_AS_ROOT: Final = ("-asap", "-pre-jail", "-post-jail", "-in-jail", "-as-root")

# The master's way to end gently, which SIGTERM always is here.
_GENTLE_STOP: Final = "unix_signal:15 gracefully_kill_them_all"


def _daemon(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        translation.map(setting, row.group, sidecar=(in_a_shell(text_of(setting)),))


def _smart_daemon(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        _, _, command = text_of(setting).partition(" ")
        translation.warn(
            setting,
            "Its pid file is not watched: the command has to stay in the foreground, and ends with this server.",
            row.group,
        )
        translation.map(setting, row.group, sidecar=(in_a_shell(command.strip()),))


def _daemon_of_keys(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        keys = dict(it.partition("=")[::2] for it in text_of(setting).split(","))
        command = keys.pop("cmd", None) or keys.pop("command", None) or keys.pop("exec", None)
        if not command:
            translation.refuse(setting, "It names no command (cmd=...).", row.group)
            continue
        if keys:
            translation.warn(setting, f"{', '.join(keys)} is not carried over.", row.group)
        translation.map(setting, row.group, sidecar=(in_a_shell(command),))


def _warn_of_order(translation: Translation, row: Row, setting: Setting) -> None:
    """Say of what uWSGI runs before it opens its sockets, or becomes another user, that it comes later here."""
    if (
        setting.name.endswith(_AS_ROOT)
        and translation.is_root
        and (translation.last("uid", "gid") is not None)
    ):
        translation.warn(
            setting,
            "It runs as the user of uid here, and as root under uWSGI: ExecStartPre=+COMMAND of systemd runs it as root.",
            row.group,
        )
    if setting.name in {"exec-asap", "hook-asap"}:
        translation.warn(
            setting,
            "It runs when the sockets are open here, and before that under uWSGI: a directory that it makes for a socket "
            "has to be there before (RuntimeDirectory= of systemd, mkdir in a Dockerfile).",
            row.group,
        )


def _is_before_chdir(translation: Translation, setting: Setting) -> bool:
    """Whether uWSGI does it before it changes to another directory, which all commands here begin in."""
    return setting.name.endswith(_BEFORE_CHDIR) and translation.start != translation.directory


def _in_its_directory(translation: Translation, setting: Setting, command: str) -> str:
    if _is_before_chdir(translation, setting):
        return f"cd {shlex.quote(translation.start)} && {{ {command}; }}"
    return command


def _exec(moment: str) -> Row:
    names = {
        "on_start": "exec-asap exec-pre-jail exec-post-jail exec-in-jail exec-as-root exec-as-user exec-pre-app",
        "on_ready": "exec-post-app",
    }[moment]

    def translate(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
        for setting in settings:
            _warn_of_order(translation, row, setting)
            command = _in_its_directory(translation, setting, text_of(setting))
            translation.map(setting, row.group, **{moment: (f"exec:{in_a_shell(command)}",)})

    return mapped(names, f"`--{moment.replace('_', '-')} exec:COMMAND`", translate)


def _hook(moment: str) -> Row:
    names = {
        "on_start": "hook-asap hook-pre-jail hook-post-jail hook-in-jail hook-as-root hook-as-user hook-pre-app",
        "on_ready": "hook-post-app hook-accepting1 hook-accepting1-once hook-accepting-once hook-accepting",
    }[moment]

    def translate(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
        for setting in settings:
            kind, _, rest = text_of(setting).partition(":")
            if kind in {"exec", "touch"}:
                _warn_of_order(translation, row, setting)
            if kind == "exec" and rest:
                command = _in_its_directory(translation, setting, rest)
                translation.map(setting, row.group, **{moment: (f"exec:{in_a_shell(command)}",)})
            elif kind == "touch" and rest:
                path = rest
                if _is_before_chdir(translation, setting):
                    path = meaning.path(rest, translation.start)
                translation.map(setting, row.group, **{moment: (f"touch:{path}",)})
            elif kind == "chdir" and moment == "on_start":
                translation.map(setting, row.group, chdir=meaning.path(rest, translation.directory))
            elif kind in {"print", "echo"}:
                translation.pass_over(setting, "The log says when the server is ready.", row.group)
            else:
                translation.refuse(
                    setting,
                    f"Of hooks there are exec:COMMAND and touch:FILE (--{moment.replace('_', '-')}).",
                    row.group,
                )

    return mapped(
        names, f"`--{moment.replace('_', '-')}` for `exec:` and `touch:`, else refused", translate
    )


def _master_hook(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        if text_of(setting).startswith(_GENTLE_STOP):
            translation.pass_over(setting, "SIGTERM always lets running requests end.", row.group)
        else:
            translation.refuse(setting, "There are no hooks of the master here.", row.group)


def _route(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        if text_of(setting).rstrip().endswith(("donotlog:", "donotlog")):
            translation.warn(
                setting,
                "These requests are logged as well; --access-log-status limits the log.",
                row.group,
            )
        else:
            translation.refuse(setting, row.text, row.group)


ROWS: Final = (
    mapped("attach-daemon attach-control-daemon", "`--sidecar`", _daemon),
    mapped("smart-attach-daemon", "`--sidecar`, with a warning", _smart_daemon),
    refused("smart-attach-daemon2", "It puts itself into the background: have it stay in the foreground, and write "
            "attach-daemon = COMMAND."),
    warned("wait-for-interface wait-for-iface wait-interface wait-iface wait-for-interface-timeout wait-for-iface-timeout "
           "wait-interface-timeout wait-iface-timeout wait-for-fs wait-for-file wait-for-dir wait-for-mountpoint "
           "wait-for-fs-timeout wait-for-socket wait-for-socket-timeout",
           "Nothing is waited for: After= and Requires= of systemd order the starts, and a command of --on-start may wait."),
    mapped("attach-daemon2", "`--sidecar`", _daemon_of_keys),
    _exec("on_start"),
    _exec("on_ready"),
    _hook("on_start"),
    _hook("on_ready"),
    mapped("hook-master-start", "nothing for a gentle SIGTERM, else refused", _master_hook),
    refused("hook-post-fork",
            "--on-fork MODULE:FUNCTION calls a function in each worker."),
    refused("hook-touch hook-as-user-atexit exec-as-user-atexit",
            "--on-worker-exit MODULE:FUNCTION calls a function when a worker ends; ExecStopPost= of systemd runs a command."),
    refused("cron cron2 unique-cron legion-cron cron-curl curl-cron timer unique-legion-cron",
            "A timer of systemd, a cron job or a scheduler such as APScheduler does that; a --sidecar runs beside the workers."),
    refused("cache cache2 queue sharedarea",
            "There is no cache of uWSGI here; Redis, memcached or the application's own do that."),
    tunes("a cache of uWSGI", "cache-blocksize cache-store cache-store-sync cache-no-expire cache-expire-freq "
          "cache-report-freed-items cache-udp-server cache-udp-node cache-sync cache-use-last-modified add-cache-item "
          "load-file-in-cache load-file-in-cache-gzip"),
    tunes("a queue of uWSGI", "queue-blocksize queue-store queue-store-sync"),
    tunes("messages between processes of uWSGI", "rpc-max signal-bufsize signals-bufsize"),
    tunes("green threads", "ugreen-stacksize"),
    tunes("routers of uWSGI", "hook-as-gateway"),
    passed_over("locks lock-engine ftok", "A lock is made for each number that uwsgi.lock is called with."),
    *(
        Row(names=(name,), verdict=Verdict.REFUSED,
            text="Write it in Nginx: location, rewrite, return, add_header.", translate=_route)
        for name in ("route", "route-host", "route-uri", "route-qs", "route-remote-addr", "route-user-agent",
                     "route-remote-user", "route-referer", "route-label", "route-if", "route-if-not", "route-run",
                     "final-route", "final-route-status", "final-route-host", "final-route-uri", "final-route-qs",
                     "final-route-remote-addr", "final-route-user-agent", "final-route-remote-user",
                     "final-route-referer", "final-route-label", "final-route-if", "final-route-if-not",
                     "final-route-run", "error-route", "error-route-status", "error-route-if", "error-route-if-not",
                     "error-route-run", "response-route", "response-route-status", "response-route-if",
                     "response-route-if-not", "response-route-run")
    ),
    refused("add-header rem-header del-header collect-header response-header-collect response-headers-limit pull-header",
            "Write it in Nginx: add_header, uwsgi_hide_header."),
    refused("error-page-403 error-page-404 error-page-500", "Write it in Nginx: error_page."),
    refused("subscribe-to subscribe2 st subscribe subscriptions-sign-check fastrouter rawrouter sslrouter forkptyrouter "
            "http-subscription-server fastrouter-subscription-server legion legion-mcast legion-node",
            "Name each server in Nginx's upstream; with Docker, resolve follows a service's name."),
    tunes("a legion", "legion-death-on-lord-error legion-freq legion-quorum legion-scroll legion-scroll-max-size "
          "legion-scroll-list-max-size legion-skew-tolerance legion-tolerance legion-lord legion-unlord legion-setup "
          "legion-death legion-join legion-node-joined legion-node-left"),
    tunes("subscriptions", "subscribe-freq subscribe-with-modifier1 subscription-algo subscription-dotsplit "
          "subscription-tolerance subscription-notify-socket subscriptions-credentials-check "
          "subscriptions-sign-check-tolerance subscriptions-sign-skip-uid subscriptions-use-credentials"),
    tunes("TLS of uWSGI", "ssl-enable-sslv3 ssl-enable-tlsv1 ssl-enable3 ssl-option ssl-session-timeout "
          "ssl-session-use-cache ssl-sessions-timeout ssl-sessions-use-cache ssl-tmp-dir ssl-verbose ssl-verify-depth "
          "https-session-context https-export-cert sni-dir-ciphers"),
    warned("websockets-ping-freq websockets-pong-tolerance websockets-max-size websocket-ping-freq websocket-pong-tolerance websocket-max-size",
           "WebSockets are ASGI's here: --websocket-ping-seconds, --websocket-max-message-bytes."),
    refused("chroot jail jidfile namespace ns unshare cap",
            "systemd (RootDirectory=, PrivateTmp=, CapabilityBoundingSet=) or a container does that, before this server starts."),
    warned("cgroup cgroup-opt cgroup-dir-mode prio", "systemd (MemoryMax=, CPUWeight=, Nice=) or a container does that."),
)  # fmt: skip
