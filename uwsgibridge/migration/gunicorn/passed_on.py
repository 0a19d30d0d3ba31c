"""What the command passes on to workers, which read the configuration again for its hooks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

# A variable of the environment that has gunicorn's arguments, and the directory that they were given in, as JSON.
VARIABLE: Final = "UWSGIBRIDGE_GUNICORN"


def write_variable(
    arguments: Sequence[str],
    start: str,
    *,
    ignored: Iterable[str] = (),
    server_pid: int | None = None,
) -> str:
    """Give the value of `VARIABLE`.

    Args:
        arguments: of gunicorn.
        start: the directory that they were given in.
        ignored: names of settings that are left out.
        server_pid: of the supervisor, for hooks that ask for it.
    """
    content: dict[str, Any] = {"arguments": list(arguments), "start": start}
    if ignored:
        content["ignored"] = sorted(ignored)
    if server_pid is not None:
        content["pid"] = server_pid
    return json.dumps(content, ensure_ascii=False)
