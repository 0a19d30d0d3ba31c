"""The table of uWSGI's options holds together, and judges as was decided."""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest

from uwsgibridge.migration.plan import Place, Setting, Verdict
from uwsgibridge.migration.uwsgi.option_names import OPTION_NAMES
from uwsgibridge.migration.uwsgi.table import ROW_OF, ROWS, make_plan
from uwsgibridge.migration.uwsgi.translation import Row

# What was decided when 137 public configurations had been read.
DECIDED: Final = {
    Verdict.MAPPED: (
        "socket uwsgi-socket chmod-socket chown-socket listen module wsgi wsgi-file file callable mount chdir processes "
        "workers threads uid gid umask pidfile safe-pidfile harakiri max-requests max-requests-delta reload-on-rss "
        "evil-reload-on-rss max-worker-lifetime reload-mercy worker-reload-mercy touch-reload touch-workers-reload "
        "touch-chain-reload py-autoreload cheaper procname procname-prefix logto lazy-apps lazy limit-post buffer-size "
        "socket-timeout env virtualenv home venv pythonpath python-path pp daemonize"
    ),
    Verdict.PASSED_OVER: (
        "master vacuum die-on-term enable-threads thunder-lock single-interpreter memory-report post-buffering no-orphans "
        "ignore-sigpipe ignore-write-errors disable-write-exception log-master log-date show-config offload-threads "
        "harakiri-verbose py-call-osafterfork close-on-exec max-fd manage-script-name need-app strict cheaper-initial"
    ),
    Verdict.WARNED: (
        "reload-on-as limit-as cheaper-step cheaper-algo cheaper-overload idle master-fifo alarm cpu-affinity "
        "log-maxsize static-expires static-gzip-dir"
    ),
    Verdict.REFUSED: (
        "http http-socket https route add-header response-route cron unique-cron mule spooler cache2 sharedarea emperor "
        "zerg subscribe-to fastrouter vhost paste no-default-app pyargv pymodule-alias"
    ),
}  # fmt: skip

# What has become something else since, each with the reason.
SINCE: Final = {
    Verdict.MAPPED: {
        "disable-logging": "there is an access log, which uWSGI has without this line",
        "plugins": "a warning is for plugins that do something",
        "plugin": "a warning is for plugins that do something",
        "gevent": "threads run the application, with a warning",
        "logger": "--log-file, --log-to",
        "log-syslog": "--log-to",
        "req-logger": "--access-log-file",
        "log-format": "--access-log-format",
        "log-4xx": "--access-log-status",
        "log-5xx": "--access-log-status",
        "static-map": "--static",
        "check-static": "--static",
        "attach-daemon": "--sidecar",
        "import": "--import-module",
        "hook-master-start": "its one use is what SIGTERM does here",
        "exec-pre-app": "--on-start",
        "hook-post-app": "--on-ready",
        "stats": "--uwsgi-stats",
        "protocol": "it says no more than the default where it is uwsgi",
    }
}


# Names that stay small at the beginning of a sentence.
_SMALL: Final = ("--", "uwsgibridge ", "systemd ", "logrotate ", "uwsgi.")


def is_sentence(text: str) -> bool:
    begins = text[0].isupper() or text.startswith(_SMALL)
    return begins and text.endswith(".") and "  " not in text


@pytest.mark.parametrize("row", ROWS, ids=lambda it: it.group)
class TestRow:
    def test_its_names_are_options_of_uwsgi(self, row: Row) -> None:
        assert [it for it in row.names if it not in OPTION_NAMES and len(it) > 1] == []

    def test_its_text_is_for_people(self, row: Row) -> None:
        assert row.text
        if row.verdict is not Verdict.MAPPED:
            assert is_sentence(row.text), row.text


def test_no_option_has_two_rows() -> None:
    counted = Counter(name for row in ROWS for name in row.names)
    assert [name for name, count in counted.items() if count > 1] == []


@pytest.mark.parametrize("verdict", DECIDED)
def test_options_are_judged_as_was_decided(verdict: Verdict) -> None:
    assert [it for it in DECIDED[verdict].split() if ROW_OF[it].verdict is not verdict] == []


@pytest.mark.parametrize("verdict", SINCE)
def test_others_are_judged_otherwise_for_a_reason(verdict: Verdict) -> None:
    assert [it for it in SINCE[verdict] if ROW_OF[it].verdict is not verdict] == []


# What tunes a part of uWSGI that another option switches on. uWSGI starts with each of them alone, and answers.
TUNING: Final = (
    "mule-harakiri mule-msg-size mule-reload-mercy hook-as-mule touch-mules-reload spooler-processes spooler-freq "
    "spooler-harakiri spooler-max-tasks spooler-import spooler-chdir spooler-quiet touch-spoolers-reload "
    "cache-store cache-blocksize cache-expire-freq add-cache-item load-file-in-cache queue-blocksize queue-store "
    "cheaper-step cheaper-overload cheaper-initial emperor-freq emperor-throttle emperor-stats emperor-pidfile "
    "emperor-tyrant vassals-inherit vassal-set imperial-monitor-list hook-as-vassal hook-as-emperor exec-as-vassal "
    "call-as-emperor4 fastrouter-timeout fastrouter-to rawrouter-timeout legion-freq legion-quorum legion-setup "
    "subscribe-freq subscription-algo subscription-tolerance snmp-community ssl-verbose ssl-sessions-timeout "
    "rpc-max signal-bufsize ugreen-stacksize logfile-chown logfile-chmod log-maxsize multicast-ttl pam-user"
)


# What an application or its start may need, and what Debian's configuration of uWSGI begins with.
LATER: Final = {
    Verdict.PASSED_OVER: "autoload max-vars",
    Verdict.WARNED: "unenv add-gid reload-on-exception wait-for-socket wait-for-interface wait-for-fs-timeout",
    Verdict.REFUSED: "envdir early-envdir smart-attach-daemon2",
}


@pytest.mark.parametrize(
    ("name", "verdict"), [(it, verdict) for verdict, names in LATER.items() for it in names.split()]
)
def test_what_a_start_may_need_says_what_to_do_instead(name: str, verdict: Verdict) -> None:
    row = ROW_OF[name]
    assert row.verdict is verdict
    assert "nothing like it" not in row.text


@pytest.mark.parametrize("name", TUNING.split())
def test_what_tunes_a_part_that_is_not_used_stops_no_move(name: str) -> None:
    assert name in OPTION_NAMES
    place = Place("app.ini", 1)
    head = (Setting("module", "app", place), Setting("socket", ":3031", place))
    plan = make_plan([*head, Setting(name, "10", place)], start="/srv", is_root=False)
    assert not plan.of(Verdict.REFUSED)
    assert any(it.setting.name == name for it in plan.findings)


@pytest.mark.parametrize(
    ("feature", "tuning"),
    [("mules", "mule-reload-mercy"), ("spooler", "spooler-freq"), ("emperor", "vassals-inherit"), ("cache2", "cache-store")],
)  # fmt: skip
def test_the_part_itself_does(feature: str, tuning: str) -> None:
    place = Place("app.ini", 1)
    settings = [Setting("module", "app", place), Setting(feature, "1", place), Setting(tuning, "1", place)]  # fmt: skip
    plan = make_plan(settings, start="/srv", is_root=False)
    assert [it.setting.name for it in plan.of(Verdict.REFUSED)] == [feature]
    assert not make_plan(settings, start="/srv", is_root=False, ignored=[feature]).of(Verdict.REFUSED)  # fmt: skip
