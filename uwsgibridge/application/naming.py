"""Reads the name of an application: ``module:attribute``, ``path/file.py:attribute``, and the call of a factory behind it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from uwsgibridge.errors import ApplicationError
from uwsgibridge.quick_dataclass import dataclass

# A name that ends in .wsgi is a module, as in Django's mysite.wsgi, unless it has a slash.
_FILE: Final = re.compile(
    r"(?P<path>[^:]+?\.py|[^:]*/[^:]*?\.wsgi)(?::(?P<attribute>.*))?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments that a factory is called with."""

    positional: Sequence[Any] = ()
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """Where something stands that is imported.

    Attributes:
        place: the path of a file, or the name of a module.
        is_file: whether it is a file.
        attribute: within the module, with dots; empty where none is named.
    """

    place: str
    is_file: bool
    attribute: str


def parse_target(name: str) -> Target:
    """Split ``module:attribute`` or ``path/file.py:attribute``.

    Raises:
        ApplicationError: the name has neither form.
    """
    file = _FILE.fullmatch(name)
    if file is not None:
        return Target(file["path"], True, file["attribute"] or "")
    module, _, attribute = name.partition(":")
    if not module or "/" in module:
        dotted = module.replace("/", ".").strip(".") or "module"
        raise ApplicationError(
            f"{name!r} is not of the form module:attribute; write for example {dotted}:app"
        )
    return Target(module, False, attribute)


def split_call(name: str) -> tuple[str, Call | None]:
    """Split the call of a factory from the end of a name.

    Returns:
        The name without the call; the arguments, or None where nothing is called.

    Raises:
        ApplicationError: the call has other arguments than literals.
    """
    file = _FILE.fullmatch(name)
    # The path of a file may have parentheses.
    begin = name.find("(", file.end("path") if file is not None else 0)
    if begin < 0:
        return name, None
    return name[:begin].rstrip(), _parse_call(name, name[begin:])


def _parse_call(name: str, text: str) -> Call:
    try:
        call = ast.parse(f"f{text.rstrip()}", mode="eval").body
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            named = {it.arg: ast.literal_eval(it.value) for it in call.keywords if it.arg}
            if len(named) == len(call.keywords):
                return Call([ast.literal_eval(it) for it in call.args], named)
    # The last two are for a text of thousands of parentheses.
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass
    raise ApplicationError(
        f"{name!r} is more than the call of a factory with literals, such as 'prod', 5, None or [1, 2]; write a function "
        "without arguments that makes this call, and name it with --factory"
    )
