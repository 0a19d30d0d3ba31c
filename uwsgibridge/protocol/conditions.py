"""Decides which part of a file a request asks for, and whether its client has the file already.

The rules are those of RFC 9110: section 13.2.2 has the order of the conditions, section 14 has ranges. Several ranges in one
request get the whole file, which section 14.2 allows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from uwsgibridge.protocol.http_date import format_date, parse_date

# One range, such as 0-499, 500- or -500. No real size has more digits.
_RANGE: Final = re.compile(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.IGNORECASE)

# An entity tag of a list. A comma may be within its quotes.
_ETAG: Final = re.compile(r'(?:W/)?"[^"]*"')


class Validators(NamedTuple):
    """What tells one state of a file from another.

    Attributes:
        etag: a strong entity tag, with its quotes.
        modified_at: when the file was changed, in whole seconds since 1970.
    """

    etag: str
    modified_at: int

    @property
    def last_modified(self) -> str:
        """The time of the change as HTTP has it."""
        return format_date(self.modified_at)


class Part(NamedTuple):
    """What to answer with.

    Attributes:
        status: 200, 206, 304, 412 or 416.
        first: where to begin in the file, in bytes.
        size_bytes: how many bytes of the file the answer to GET has.
    """

    status: int
    first: int
    size_bytes: int


def choose_part(variables: Mapping[str, str], validators: Validators, size_bytes: int) -> Part:
    """Choose the part of a file that a request gets.

    Args:
        variables: the vars of a request whose method is GET or HEAD.
        validators: of the file.
        size_bytes: of the file.
    """
    status = _judge(variables, validators)
    if status:
        return Part(status, 0, 0)
    asked = variables.get("HTTP_RANGE")
    # HEAD has no ranges (section 14.2).
    if (
        asked
        and variables["REQUEST_METHOD"] == "GET"
        and _may_have_range(variables.get("HTTP_IF_RANGE"), validators)
    ):
        return _part_of(asked, size_bytes)
    return Part(200, 0, size_bytes)


def _judge(variables: Mapping[str, str], validators: Validators) -> int:
    """Give the status that the conditions lead to; 0 where the file is to be sent."""
    get = variables.get
    etag, modified_at = validators
    if (tags := get("HTTP_IF_MATCH")) is not None:
        is_wanted = tags.strip() == "*" or etag in _ETAG.findall(tags)
    else:
        date = _date(get("HTTP_IF_UNMODIFIED_SINCE"))
        is_wanted = date is None or modified_at <= date
    if not is_wanted:
        return 412
    if (tags := get("HTTP_IF_NONE_MATCH")) is not None:
        # A weak tag is as good here: Nginx makes tags weak where it compresses (section 13.1.2).
        found = [tag.removeprefix("W/") for tag in _ETAG.findall(tags)]
        is_known = tags.strip() == "*" or etag in found
    else:
        date = _date(get("HTTP_IF_MODIFIED_SINCE"))
        is_known = date is not None and modified_at <= date
    return 304 if is_known else 0


def _may_have_range(condition: str | None, validators: Validators) -> bool:
    """Whether a part may be sent to a client that has another part of the file in this state (section 13.1.5)."""
    if condition is None:
        return True
    condition = condition.strip()
    if condition.startswith(('"', "W/")):
        return condition == validators.etag
    return _date(condition) == validators.modified_at


def _part_of(asked: str, size_bytes: int) -> Part:
    found = _RANGE.fullmatch(asked)
    if found is None or not (found[1] or found[2]):
        return Part(200, 0, size_bytes)  # another unit, several ranges, or none
    if not found[1]:
        wanted = min(int(found[2]), size_bytes)
        return Part(206, size_bytes - wanted, wanted) if wanted else Part(416, 0, 0)
    first = int(found[1])
    last = min(int(found[2]), size_bytes - 1) if found[2] else size_bytes - 1
    if found[2] and int(found[2]) < first:
        return Part(200, 0, size_bytes)  # no valid range (section 14.1.2)
    return Part(206, first, last - first + 1) if first < size_bytes else Part(416, 0, 0)


def _date(text: str | None) -> int | None:
    """Give the seconds since 1970 of a header's date; None where there is none, or it is not valid."""
    return parse_date(text) if text else None
