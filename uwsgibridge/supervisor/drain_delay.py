"""Puts a stop off while load balancers forget this service (``--drain-delay-seconds``)."""

from __future__ import annotations

from typing import Final

import trio

from uwsgibridge.supervisor.fleet import END_MARGIN_SECONDS, Fleet
from uwsgibridge.supervisor.phase import Phase

# Why the stop begins where no second signal has cut the delay short.
_REASON: Final = "the drain delay is over"


async def end_drain_delay(fleet: Fleet) -> None:
    """Wait for a drain delay, tell systemd of it, and begin the stop when it is over.

    Until then, all goes on: workers are looked after and replaced, and a reload may run to its end.

    Args:
        fleet: the workers.
    """
    await fleet.wait_for(lambda: fleet.phase is Phase.DRAIN_DELAY)
    seconds = fleet.settings.drain_delay_seconds
    workers = [worker for it in fleet.generations for worker in it.workers.values()]
    # What the stop itself takes has the bounds of `Rollout.drain`.
    fleet.notifier.stopping(seconds + fleet.end_seconds(*workers) + 2 * END_MARGIN_SECONDS)
    with trio.move_on_after(seconds):
        await fleet.wait_for(lambda: fleet.phase is not Phase.DRAIN_DELAY)
    if fleet.phase is Phase.DRAIN_DELAY:
        fleet.begin_stop(_REASON)
