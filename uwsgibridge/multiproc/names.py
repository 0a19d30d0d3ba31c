"""Names of prometheus_client's files, and of what stands beside them in the directory.

prometheus_client/values.py (``MultiProcessValue``) gives a file its name: the type, with a gauge its mode, and the
number of the process, or what the application has put in its place (``process_identifier``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# prometheus_client/metrics.py: what uses `ValueClass`, and `Gauge._MULTIPROC_MODES`.
_NAME: Final = re.compile(
    r"(?P<kind>counter|histogram|summary"
    r"|gauge_(?:live)?(?:all|sum|min|max|mostrecent))_(?P<identifier>.+)\.db"
)
_FOLDED: Final = re.compile(r"ended-(?P<number>[0-9]+)")
_SET_ASIDE: Final = ".damaged"

# Of a link that leads nowhere. `FilesOfEnded` has its reason.
BARRIER: Final = "counter_folding.db"
BARRIER_TARGET: Final = ".uwsgibridge-nothing"

# Of files that a scrape does not see: `glob` leaves out what begins with a dot.
_HIDDEN: Final = ".uwsgibridge-"
OWNER: Final = f"{_HIDDEN}owner"
LOCK: Final = f"{_HIDDEN}lock"


@dataclass(frozen=True, slots=True)
class FileName:
    """What the name of a file says.

    Attributes:
        text: the name.
        kind: of its figures: ``counter``, ``gauge_livesum``.
        identifier: of the process: its number, unless the application gives another one.
        folded: where the file has the figures of ended processes, which of several such files it is; else 0.
    """

    text: str
    kind: str
    identifier: str
    folded: int

    @property
    def is_live(self) -> bool:
        """Whether the figures end with their process."""
        return self.kind.startswith("gauge_live")


def read_name(text: str) -> FileName | None:
    """Read the name of a file of prometheus_client's; None where it is none."""
    found = _NAME.fullmatch(text)
    if found is None or text == BARRIER:
        return None
    folded = _FOLDED.fullmatch(found["identifier"])
    return FileName(
        text, found["kind"], found["identifier"], int(folded["number"]) if folded else 0
    )


def is_ours(text: str) -> bool:
    """Whether a name is one that this room gives to a file."""
    return text.startswith(_HIDDEN) or text in {BARRIER, *map(set_aside_name, _KINDS)}


def folded_name(kind: str, number: int) -> str:
    """Give the name of the file that has the figures of ended processes."""
    return f"{kind}_ended-{number}.db"


def new_name(kind: str) -> str:
    """Give the name of such a file while it is written."""
    return f"{_HIDDEN}new-{kind}"


def old_name(name: str) -> str:
    """Give the name of a file that is being removed."""
    return f"{_HIDDEN}old-{name}"


def set_aside_name(kind: str) -> str:
    """Give the name of a damaged file that is kept for a look at it."""
    return f"{kind}{_SET_ASIDE}"


_MODES: Final = ("all", "sum", "min", "max", "mostrecent")
_KINDS: Final = (
    *("counter", "histogram", "summary"),
    *(f"gauge_{live}{mode}" for live in ("", "live") for mode in _MODES),
)
