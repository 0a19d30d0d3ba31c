"""The content of prometheus_client's files, as bytes and as records.

A file begins with the number of bytes that are used (four bytes, native order) and four bytes of padding. Each record has
the length of its key, the key (JSON: names, labels, help), padding up to a multiple of eight, and the value. Since 0.18
the time of a gauge stands behind the value (prometheus_client/mmap_dict.py). Nothing in a file tells the two forms
apart but that it can be read to its end as one of them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

_HEAD: Final = struct.Struct("i4x")
_LENGTH: Final = struct.Struct("i")
_ALIGNMENT: Final = 8

# Bytes of the value alone, and with the time of a gauge.
PLAIN: Final = 8
TIMED: Final = 16
_NUMBERS: Final = {PLAIN: struct.Struct("d"), TIMED: struct.Struct("dd")}

# A value, and a time in seconds since 1970, which is 0 where none was given.
Sample: TypeAlias = tuple[float, float]


class DamagedError(Exception):
    """A file can't be read; the message ends a sentence."""


@dataclass(frozen=True, slots=True)
class Records:
    """The records of a file.

    Attributes:
        width: `PLAIN` or `TIMED`; 0 where there is no record.
        samples: by key.
    """

    width: int
    samples: Mapping[bytes, Sample]


NOTHING: Final = Records(0, {})


def parse(data: bytes) -> Records:
    """Read the bytes of a file.

    Raises:
        DamagedError: they are cut, or have neither form.
    """
    if len(data) < _HEAD.size:
        if any(data):
            raise DamagedError("it has no complete head")
        return NOTHING  # its process ended before it could write
    (used,) = _HEAD.unpack_from(data)
    if used in {0, _HEAD.size}:
        return NOTHING
    if used < 0:
        raise DamagedError("its head has no number of bytes")
    if used > len(data):
        raise DamagedError(f"it has {len(data)} bytes, and its head says {used}")
    for width in (TIMED, PLAIN):
        try:
            return Records(width, dict(_walk(data, used, width)))
        except (DamagedError, struct.error):
            continue
    raise DamagedError("it has records of no known form")


def used_bytes(head: bytes) -> int:
    """Give how many bytes of a file are used, by its first ones; 0 where these do not tell it."""
    used: int = _HEAD.unpack_from(head)[0] if len(head) >= _HEAD.size else 0
    return used


def _walk(data: bytes, used: int, width: int) -> Iterator[tuple[bytes, Sample]]:
    unpack_length, unpack = _LENGTH.unpack_from, _NUMBERS[width].unpack_from
    position = _HEAD.size
    while position < used:
        (length,) = unpack_length(data, position)
        begin = position + _LENGTH.size
        end = begin + length
        value_at = end + _padding(length)
        position = value_at + width
        if length <= 0 or position > used or data[begin] != ord("[") or data[end - 1] != ord("]"):
            raise DamagedError("this is no record")
        numbers = unpack(data, value_at)
        yield data[begin:end], (numbers[0], numbers[1] if width == TIMED else 0.0)


def form(records: Records) -> bytes:
    """Make the bytes of a file; without records, it is one whose process has written nothing."""
    parts = [b""]
    for key, sample in records.samples.items():
        numbers = _NUMBERS[records.width].pack(*sample[: records.width // PLAIN])
        parts += [_LENGTH.pack(len(key)), key, b" " * _padding(len(key)), numbers]
    used = _HEAD.size + sum(map(len, parts))
    parts[0] = _HEAD.pack(used)
    return b"".join(parts)


def _padding(length: int) -> int:
    # Never 0: prometheus_client adds a whole eight bytes where the key is aligned by itself.
    return _ALIGNMENT - (length + _LENGTH.size) % _ALIGNMENT


def merge(kind: str, several: Iterable[Records]) -> Records:
    """Merge what several processes have counted, as ``MultiProcessCollector`` would at a scrape.

    Args:
        kind: of the files.
        several: of their records; of two equals, the first counts.
    """
    combine = _COMBINE.get(kind.removeprefix("gauge_"), _add)
    width, merged = 0, dict[bytes, Sample]()
    for records in several:
        width = max(width, records.width)
        for key, sample in records.samples.items():
            before = merged.get(key)
            merged[key] = sample if before is None else combine(before, sample)
    return Records(width, merged)


def _add(one: Sample, other: Sample) -> Sample:
    return one[0] + other[0], 0.0


def _newer(one: Sample, other: Sample) -> Sample:
    return other if one[1] < other[1] else one


_COMBINE: Final[Mapping[str, Callable[[Sample, Sample], Sample]]] = {
    "min": min,
    "max": max,
    "mostrecent": _newer,
}
