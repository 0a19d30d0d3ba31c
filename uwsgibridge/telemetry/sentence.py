"""Log events as one text, for logs that know a message and its priority, and whose lines get their time elsewhere."""

from __future__ import annotations

import json
from typing import Any, Final

from uwsgibridge.telemetry.logs import Event

# Severities of syslog (RFC 5424, section 6.2.1) by the levels of events.
PRIORITIES: Final = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}

# What stands below the sentence, with its line ends.
_BELOW: Final = ("line", "stack", "exception")
_ELSEWHERE: Final = frozenset({"event", "level", "timestamp", *_BELOW})


def as_sentence(event: Event) -> str:
    """Write an event without level and time: the event, its fields as ``name=value``, and tracebacks below.

    Args:
        event: without ``exc_info``.
    """
    words = [str(event["event"])]
    words += [
        f"{name}={_word(value)}"
        for name, value in event.items()
        if value is not None and name not in _ELSEWHERE
    ]
    return "\n".join([" ".join(words), *(str(event[it]) for it in _BELOW if event.get(it))])


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    plain = text and text.isprintable() and not any(it in text for it in ' "=')
    return text if plain or not isinstance(value, str) else json.dumps(text, ensure_ascii=True)
