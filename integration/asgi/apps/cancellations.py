"""A cancellation of trio whose scope is over, such as one that a cache of results has kept with the other results."""

from __future__ import annotations

import trio


def _make() -> trio.Cancelled:
    kept: list[trio.Cancelled] = []

    async def cancelled() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                kept.append(error)
                raise

    trio.run(cancelled)
    return kept[0]


# Made by the import: no event loop runs then.
_KEPT = _make()


def kept_cancellation() -> trio.Cancelled:
    """Give the exception by which a scope that is over has cancelled something."""
    return _KEPT.with_traceback(None)
