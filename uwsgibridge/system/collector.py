"""Has Python's garbage collector rest while modules are imported."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Final

# New objects between two collections. A large framework makes fewer as it is imported; and that many lists take some
# ten megabytes, which bounds what an import may leave behind as garbage.
_OBJECTS: Final = 200_000


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Collect garbage rarely for a while.

    What an import makes is there to stay. Each collection looks at it anew, and frees next to nothing. So it belongs to the
    oldest objects afterwards, unless some are frozen: those would be frozen no longer.
    A threshold that the imported code sets is left as it is.
    """
    before = gc.get_threshold()
    if before[0] == 0:  # somebody has switched the collector off
        yield
        return
    gc.set_threshold(_OBJECTS, *before[1:])
    try:
        yield
    finally:
        if gc.get_threshold()[0] == _OBJECTS:
            if not gc.get_freeze_count():
                # Both only link lists of objects: none is looked at.
                gc.freeze()
                gc.unfreeze()
            gc.set_threshold(*before)
