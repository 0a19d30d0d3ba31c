"""What the messages of an ASGI application must have, said in words where they do not."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, TypeAlias

from uwsgibridge.protocol.errors import InvalidResponse

Message: TypeAlias = MutableMapping[str, Any]


def kind_of(message: Message) -> str:
    """Give the type of a message.

    Raises:
        InvalidResponse: it is no message, or has none.
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
    """Give what a message has under a name.

    Args:
        message: of a known type.
        name: of the key.
        kinds: of which the value must be.
        default: what stands where there is no such key; without one it must be there.

    Raises:
        InvalidResponse: it is not there, or of another type.
    """
    value = message.get(name, default)
    if value is ...:
        raise InvalidResponse(f"{message['type']} has no {name!r}")
    if value is not default and not isinstance(value, kinds):
        raise InvalidResponse(
            f"the {name!r} of {message['type']} is of type {type(value).__name__}"
        )
    return value
