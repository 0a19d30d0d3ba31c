"""Chooses the text format that a scraper likes best, by the header ``Accept`` (RFC 9110, section 12.5.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from uwsgibridge.figures.text import TextFormat

# What each format answers to. A range with a version has to name this one.
_OFFERS: Final = {
    # The first one wins where both are liked as much: a person with curl reads it.
    TextFormat.PROMETHEUS: ("text", "plain", "0.0.4"),
    TextFormat.OPENMETRICS: ("application", "openmetrics-text", "1.0.0"),
}

# Prometheus sends some 300 characters. A longer header would only cost time.
_MAX_CHARACTERS: Final = 4096


@dataclass(frozen=True, slots=True)
class _Range:
    """A media range: what it takes, and how much that is liked."""

    kind: str
    subtype: str
    version: str
    quality: float

    def specificity(self, kind: str, subtype: str, version: str) -> int:
        """Tell how closely this range describes an offer; 0 where it does not."""
        if self.version and self.version != version:
            return 0
        if (self.kind, self.subtype) == (kind, subtype):
            return 4 if self.version else 3
        if (self.kind, self.subtype) == (kind, "*"):
            return 2
        return 1 if (self.kind, self.subtype) == ("*", "*") else 0


def choose_format(accept: str) -> TextFormat:
    """Choose a format.

    Args:
        accept: the header's value; empty where there is none.

    Returns:
        The format that is liked best. Prometheus's own where none is asked for: all scrapers read it, and RFC 9110
        lets a server answer so where 406 would help nobody.
    """
    ranges = [it for part in accept[:_MAX_CHARACTERS].split(",") if (it := _parse(part))]
    best, best_quality = TextFormat.PROMETHEUS, 0.0
    for offer, description in _OFFERS.items():
        matching = [
            (specificity, it.quality)
            for it in ranges
            if (specificity := it.specificity(*description))
        ]
        quality = max(matching)[1] if matching else 0.0
        if quality > best_quality:
            best, best_quality = offer, quality
    return best


def _parse(text: str) -> _Range | None:
    media, *parameters = (it.strip() for it in text.lower().split(";"))
    kind, slash, subtype = media.partition("/")
    if not slash:
        return None
    values = {
        name.strip(): it.strip().strip('"')
        for name, _, it in (one.partition("=") for one in parameters)
    }
    try:
        quality = float(values.get("q", "1"))
    except ValueError:
        return None
    if not math.isfinite(quality):
        return None
    return _Range(kind, subtype, values.get("version", ""), min(max(quality, 0.0), 1.0))
