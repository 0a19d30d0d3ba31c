"""What an entry of the catalogue says, and what an event of the bridge's log says as the cause of one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of Nginx, or a status in its access log, with what is known of it.

    Attributes:
        name: of the entry; it stays the same, so that programs can look for it.
        says: the message as a person finds it, without what differs from case to case.
        pattern: matches a message of the error log from its beginning, for clients have a word in its end; in the
            access log, the status.
        client: what the client sees.
        happened: what it means.
        why: the usual cause, where the bridge's log has none.
        change: what to change.
        causes: events of the bridge's log that lead to it.
        looks_back_seconds: how long before the line such an event may be, beside what is allowed for clocks.
        log: where Nginx writes it.
    """

    name: str
    says: str
    pattern: re.Pattern[str]
    client: str
    happened: str
    why: str
    change: str
    causes: tuple[str, ...] = ()
    looks_back_seconds: float = 0.0
    log: Literal["error", "access"] = "error"


@dataclass(frozen=True, slots=True)
class Cause:
    """An event of the bridge's log as a cause.

    Attributes:
        why: what it says of the failure.
        change: what to change.
        shows: fields of the event that are told, beside `option` and `hint`.
        lasts: whether it holds until the bridge listens again.
    """

    why: str
    change: str
    shows: tuple[str, ...] = ()
    lasts: bool = False
