"""Which location of a server a path goes to, as ngx_http_core_find_location() chooses."""

from __future__ import annotations

import re
from typing import Final

from uwsgibridge.frontend.check.tree import Level

_NAMED: Final = re.compile(r"\(\?<(?=[A-Za-z_])")


def find_location(level: Level, path: str) -> Level | None:
    """Give the location that a request for a path ends in.

    An exact one first, then the longest prefix, unless a regular expression matches; ``^~`` keeps those out. Nested
    locations are looked at in the same way. A regular expression that Python can't read counts as no match.

    Args:
        level: the server, or a location with others in it.
        path: decoded, without the query.

    Returns:
        The location; the level itself where none of its own fits and it is a location, else None.
    """
    here = level if level.kind == "location" else None
    best: Level | None = None
    for location in level.below:
        if location.kind != "location" or location.modifier in {"~", "~*"}:
            continue
        if location.path.startswith("@"):
            continue
        if location.modifier == "=":
            if location.path == path:
                return location
        elif path.startswith(location.path) and (
            best is None or len(location.path) > len(best.path)
        ):
            best = location
    # Nested locations of the longest prefix go first, regular expressions among them.
    within = None if best is None else find_location(best, path)
    if within is not None and within is not best:
        return within
    if best is None or best.modifier != "^~":
        for location in level.below:
            if (
                location.kind == "location"
                and location.modifier in {"~", "~*"}
                and _matches(location, path)
            ):
                return find_location(location, path)
    return best or here


def find_named(server: Level, name: str) -> Level | None:
    """Give the location of a name such as ``@app``; those are on the level of the server only."""
    return next((it for it in server.below if it.kind == "location" and it.path == name), None)


def _matches(location: Level, path: str) -> bool:
    try:
        flags = re.IGNORECASE if location.modifier == "~*" else 0
        # PCRE has named groups with and without the P.
        return re.search(_NAMED.sub("(?P<", location.path), path, flags) is not None
    except re.error:
        return False
