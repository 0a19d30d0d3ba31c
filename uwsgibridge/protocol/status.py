"""Checks the status of an application, and gives the bytes that follow the version in the status line."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from uwsgibridge.protocol.errors import InvalidResponse

# How many statuses are remembered. An application may take a status from a request, so that neither their number nor
# their bytes may grow with the requests.
_MAX_REMEMBERED: Final = 1024
_MAX_REMEMBERED_BYTES: Final = 64

_STATUS: Final = re.compile(r"[1-9][0-9]{2}(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")

# What `parse_status` gives for the texts that were met so far.
known_statuses: Final[dict[str, tuple[int, bytes]]] = {}

known_status_lines: dict[int, bytes] = {}


def parse_status(text: str) -> tuple[int, bytes]:
    """Check a WSGI status string (PEP 3333, "The start_response() Callable").

    Returns:
        The code, and the string as bytes with at least a space after the code.

    Raises:
        InvalidResponse: the text is not of the form ``NNN Reason``.
    """
    if type(text) is not str:
        if not isinstance(text, str):
            raise InvalidResponse(f"the status must be a str such as '200 OK', not {text!r}")
        text = str.__str__(text)  # a member of a StrEnum and the like
    if text in known_statuses:
        return known_statuses[text]
    if not _STATUS.fullmatch(text):
        raise InvalidResponse(f"the status {text!r} is not of the form '200 OK'")
    try:
        line = (text if len(text) > 3 else text + " ").encode("latin-1")
    except UnicodeEncodeError:
        raise InvalidResponse(f"the status {text!r} has characters beyond latin-1") from None
    known = (int(text[:3]), line)
    if len(text) <= _MAX_REMEMBERED_BYTES and len(known_statuses) < _MAX_REMEMBERED:
        known_statuses[text] = known
    return known


def status_line(status: int) -> bytes:
    """Give the code with its standard reason, or an empty one.

    Raises:
        InvalidResponse: the status is no integer from 100 to 999.
    """
    if type(status) is not int:
        # An HTTPStatus is an int, too. A float that equals an int is a mistake.
        if not isinstance(status, int):
            raise InvalidResponse(f"the status must be an integer, not {status!r}")
        status = int(status)
    if status in known_status_lines:
        return known_status_lines[status]
    if not 100 <= status <= 999:
        raise InvalidResponse(f"the status must be an integer from 100 to 999, not {status!r}")
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    line = known_status_lines[status] = b"%d %b" % (status, reason.encode("ascii"))
    return line
