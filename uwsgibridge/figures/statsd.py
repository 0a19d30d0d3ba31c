"""Writes figures as statsd takes them: changes of counters, values of gauges, in datagrams of a bounded size.

The forms are statsd's own (docs/metric_types.md of etsy/statsd) and dogstatsd's, which has tags. No client library does it:
those that are kept up measure in the process that sends, and none turns sums into changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from uwsgibridge.figures.family import Family, Histogram, Kind, Labels
from uwsgibridge.figures.text import cumulative_counts

# What fits into a frame of Ethernet, with the heads of IPv6 and UDP; Datadog names the same number.
UDP_BYTES: Final = 1432

# What Datadog's agent takes through a unix socket.
UNIX_BYTES: Final = 8192

_NO_PART_OF_A_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")
_NO_PART_OF_A_TAG: Final = re.compile(r"[^A-Za-z0-9_./:-]+")


class StatsdText:
    """Writes lines for statsd, and remembers what was sent.

    Args:
        prefix: what names begin with; empty for nothing.
        tags: of each line, in the form of dogstatsd; None for statsd's own form, in which labels are parts of the name.
    """

    def __init__(self, prefix: str, tags: Sequence[str] | None) -> None:
        self._prefix = f"{prefix.rstrip('.')}." if prefix else ""
        self._tags = tags
        self._sent: Mapping[tuple[str, Labels], float] = {}
        self._written: Mapping[tuple[str, Labels], float] = {}

    def start_from(self, families: Iterable[Family]) -> None:
        """Take the present counts for sent, so that only what comes later is."""
        self._written = {(name, labels): count for name, labels, count in _counts(families)}
        self.mark_sent()

    def mark_sent(self) -> None:
        """Take the lines that `lines` gave last for sent; without that, the next ones have their changes, too."""
        self._sent = self._written

    def lines(self, families: Sequence[Family]) -> list[str]:
        """Give what is to be sent of these figures; counts that have not changed since `mark_sent` are left out.

        Args:
            families: all figures.
        """
        found: list[str] = []
        counted: dict[tuple[str, Labels], float] = {}
        for name, labels, count in _counts(families):
            counted[name, labels] = count
            before = self._sent.get((name, labels), 0)
            # A count that went back began anew.
            change = count - before if count >= before else count
            if change > 0:
                found.append(self._line(name, labels, change, "c"))
        self._written = counted
        for family in families:
            if family.kind is Kind.GAUGE or (family.kind is Kind.INFO and self._tags is not None):
                for sample in family.samples:
                    if not isinstance(sample, Histogram):
                        found += self._gauge_lines(family.name, sample.labels, sample.value)
        return found

    def _gauge_lines(self, name: str, labels: Labels, value: float) -> Iterator[str]:
        # To statsd, a sign means a change of the value: a negative one is a change from 0. dogstatsd knows no changes.
        if value < 0 and self._tags is None:
            yield self._line(name, labels, 0, "g")
        yield self._line(name, labels, value, "g")

    def _line(self, name: str, labels: Labels, value: float, kind: str) -> str:
        # The first word is the name space: uwsgibridge.requests, as gunicorn has gunicorn.requests.
        space, _, rest = name.partition("_")
        full = f"{self._prefix}{space}.{rest}"
        number = _write_plainly(value)
        if self._tags is None:
            return ".".join([full, *(_name_part(it) for _, it in labels)]) + f":{number}|{kind}"
        tags = [*self._tags, *(f"{key}:{_NO_PART_OF_A_TAG.sub('_', it)}" for key, it in labels)]
        return f"{full}:{number}|{kind}" + (f"|#{','.join(tags)}" if tags else "")


def datagrams(lines: Iterable[str], most_bytes: int) -> Iterator[bytes]:
    """Put lines into datagrams.

    Args:
        lines: as `StatsdText.lines` gives them.
        most_bytes: of a datagram; a longer line has one of its own.
    """
    gathered = b""
    for line in lines:
        data = line.encode("ascii", "replace")
        if gathered and len(gathered) + 1 + len(data) > most_bytes:
            yield gathered
            gathered = data
        else:
            gathered = gathered + b"\n" + data if gathered else data
    if gathered:
        yield gathered


def _counts(families: Iterable[Family]) -> Iterator[tuple[str, Labels, float]]:
    """Give all counts: of a histogram, its ranges, the number of observations, and their sum."""
    for family in families:
        for sample in family.samples:
            if isinstance(sample, Histogram):
                bounds = [bound for bound, _ in cumulative_counts(sample)]
                for bound, count in zip(bounds, sample.counts, strict=True):
                    label = ("le", "inf" if bound == "+Inf" else bound)
                    yield f"{family.name}.bucket", (*sample.labels, label), count
                yield f"{family.name}.count", sample.labels, sum(sample.counts)
                yield f"{family.name}.sum", sample.labels, sample.total
            elif family.kind is Kind.COUNTER:
                yield family.name, sample.labels, sample.value


def _name_part(text: str) -> str:
    return _NO_PART_OF_A_NAME.sub("_", text.strip("/")) or "root"


def _write_plainly(value: float) -> str:
    """Write a number without an exponent, which not every server of statsd reads."""
    if value == int(value):
        return str(int(value))
    return f"{value:.9f}".rstrip("0")
