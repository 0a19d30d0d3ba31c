"""Tells an operator where workers are long in becoming ready: how long it has been, and where the code is."""

from __future__ import annotations

from typing import Final

import trio

from uwsgibridge.supervisor.fleet import Fleet
from uwsgibridge.supervisor.generation import Generation

# A usual application is there before. Each further line comes after as long a time again: 10, 20, 40 seconds.
FIRST_SECONDS: Final = 10.0


async def tell_slow_start(fleet: Fleet, generation: Generation) -> None:
    """Log that workers are not ready yet, and have systemd show it, until cancelled.

    Args:
        fleet: of the supervisor; its logger and its notifier tell it.
        generation: that comes up.
    """
    waited = 0.0
    while True:
        pause = waited or FIRST_SECONDS
        await trio.sleep(pause)
        waited += pause
        starting = [it for it in generation.workers.values() if not (it.is_ready or it.is_stopping)]
        fleet.notifier.status(
            f"{fleet.state}: {len(generation.ready)} of {fleet.wanted} workers are ready after {waited:.0f} s"
        )
        fields: dict[str, object] = {}
        if starting:
            # One of them says it for all.
            fields = {"worker": starting[0].pid, "stack": await starting[0].stacks()}
        fleet.log.warning(
            "still starting: workers are not ready yet",
            seconds=round(waited),
            ready=len(generation.ready),
            wanted=fleet.wanted,
            generation=generation.number,
            **fields,
        )
