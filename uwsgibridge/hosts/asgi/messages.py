"""Checks the messages of an ASGI application, and says what is wrong with them."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, TypeAlias

from uwsgibridge.protocol.errors import InvalidResponse

Message: TypeAlias = MutableMapping[str, Any]


def kind_of(message: Message) -> str:
    """Give the type of a message.

    Raises:
        InvalidResponse: it is no message, or it has no type.
    """
    try:
        kind = message["type"]
    except (KeyError, TypeError, IndexError):
        kind = None
    if isinstance(kind, str):
        return kind
    if not hasattr(message, "keys"):
        raise InvalidResponse(f"a message is a dict, not {message!r:.80}")
    raise InvalidResponse(f"a message has a 'type' that is a str; this one has {sorted(message)}")


def value_of(
    message: Message, name: str, kinds: type | tuple[type, ...] = object, *, default: Any = ...
) -> Any:
    """Give the value that a message has for a key.

    Args:
        message: a message whose type is known.
        name: the key.
        kinds: the types that the value may have.
        default: the value where the key is missing; without a default, the key must be there.

    Raises:
        InvalidResponse: the key is missing, or its value has another type.
    """
    value = message.get(name, default)
    if value is ...:
        raise InvalidResponse(f"{message['type']} has no {name!r}")
    if value is not default and not isinstance(value, kinds):
        raise InvalidResponse(
            f"the {name!r} of {message['type']} is of type {type(value).__name__}"
        )
    return value
