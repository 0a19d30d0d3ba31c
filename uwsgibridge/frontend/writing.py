"""How lines of an Nginx configuration are written: blocks, sizes, switches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

INDENT: Final = "    "


def block(head: str, lines: Iterable[str]) -> list[str]:
    """Put lines between braces."""
    return [f"{head} {{", *indent(lines), "}"]


def indent(lines: Iterable[str]) -> list[str]:
    """Move lines one step to the right."""
    return [INDENT + line if line else line for line in lines]


def size(size_bytes: int) -> str:
    """Write a number of bytes with Nginx's unit, where it is a whole one."""
    for suffix, unit_bytes in (("m", 1024 * 1024), ("k", 1024)):
        if size_bytes and size_bytes % unit_bytes == 0:
            return f"{size_bytes // unit_bytes}{suffix}"
    return str(size_bytes)


def switch(on: bool) -> str:
    """Write a switch."""
    return "on" if on else "off"


def resolver_lines(address: str) -> list[str]:
    """Name the DNS server that Nginx asks while it runs; each answer holds for five seconds."""
    return [f"resolver {address} valid=5s ipv6=off;", "resolver_timeout 5s;"]
