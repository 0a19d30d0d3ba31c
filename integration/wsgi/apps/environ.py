"""Tells its environ."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .checked import checked

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse


def _tell(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    told = {name: value for name, value in environ.items() if isinstance(value, str | bool)}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]


application = checked(_tell)
