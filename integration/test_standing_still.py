"""Processes that stand still: what waits for their word waits so long and no longer."""

from __future__ import annotations

import os
import signal
from time import monotonic

import pytest

from integration.process_tree import family
from integration.workers import PATIENCE_SECONDS, fetch, workers
from tests.processes import wait_gone
from uwsgibridge.control.client import ask
from uwsgibridge.testing import event_with

# Hangs in the template, in place of a fork that it was asked for, once the file is there.
HANGS_AT_FORK = """
import os, signal
def hang():
    if os.path.exists(os.environ["HANGS"]):
        signal.pause()
os.register_at_fork(before=hang)
"""


@pytest.mark.parametrize("how", ["stopped", "hanging"])
def test_a_template_that_stands_still_hides_no_dead_workers(tmp_path, how):
    control, hangs = tmp_path / "control.sock", tmp_path / "hangs"
    with workers(
        tmp_path,
        *("unix", "wsgi", "--control-socket", str(control), "--preload"),
        first=HANGS_AT_FORK if how == "hanging" else "",
        environment={"HANGS": str(hangs)},
    ) as stack:
        [(template, pids)] = family(stack.pid).items()
        if how == "stopped":
            os.kill(template, signal.SIGSTOP)
        hangs.touch()
        since = len(stack.log_events())
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for _ in pids:
            event = stack.wait_for_event(
                event_with(event="worker ended"), since=since, timeout_seconds=PATIENCE_SECONDS
            )
        assert event["worker"] in pids
        told = {it["pid"]: it["state"] for it in ask(control, "status")["workers"]}
        assert all(told.get(pid, "ended") == "ended" for pid in pids), told
        event = stack.wait_for_event(
            event_with(event="killing template: it does not fork"),
            since=since,
            timeout_seconds=PATIENCE_SECONDS,
        )
        assert event["template"] == template
        hangs.unlink()
        stack.wait_for_event(
            event_with(event="reloaded"), since=since, timeout_seconds=PATIENCE_SECONDS
        )
        assert fetch(stack.url)[0] == "one"
        assert wait_gone(template, PATIENCE_SECONDS)
        assert stack.stop() == 0


def test_status_tells_what_is_known_at_once(tmp_path):
    control = tmp_path / "control.sock"
    with workers(tmp_path, "unix", "wsgi", "--control-socket", str(control)) as stack:
        [(template, pids)] = family(stack.pid).items()
        os.kill(template, signal.SIGSTOP)
        victim = min(pids)
        os.kill(victim, signal.SIGKILL)
        assert wait_gone(victim, PATIENCE_SECONDS)
        told = {it["pid"]: it["state"] for it in ask(control, "status")["workers"]}
        assert told.get(victim, "ended") == "ended"
        os.kill(template, signal.SIGCONT)


@pytest.mark.parametrize("change", ["stop", "reload"])
def test_a_template_that_stands_still_holds_nothing_up(tmp_path, change):
    with workers(tmp_path, "unix", "wsgi") as stack:
        [template] = family(stack.pid)
        os.kill(template, signal.SIGSTOP)
        since, begun = len(stack.log_events()), monotonic()
        if change == "stop":
            assert stack.stop() == 0
            limit = 8.0
        else:
            stack.bridge.signal(signal.SIGHUP)
            stack.wait_for_event(
                event_with(event="generation has ended", generation=1),
                since=since,
                timeout_seconds=PATIENCE_SECONDS,
            )
            limit = 15.0
        assert monotonic() - begun < limit
        assert wait_gone(template, PATIENCE_SECONDS)
