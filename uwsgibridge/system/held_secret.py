"""A secret that this process has read as root, and hands on in memory: to processes that it starts, and to a program that takes it over."""

from __future__ import annotations

import os

from uwsgibridge.system.memory_file import make_memory_file

# A variable of the environment that has the number of a descriptor.
_VARIABLE = "UWSGIBRIDGE_HELD_SECRET_FD"

_held: int | None = None


def hold(secret: bytes) -> None:
    """Hold a secret in the place of the one before."""
    global _held
    memory = make_memory_file("uwsgibridge-secret")
    os.write(memory, secret)
    before, _held = _held, memory
    if before is not None:
        os.close(before)


def take_over() -> bool:
    """Hold what the program before this one, or the supervisor that has started this, has handed on; False where nothing was."""
    global _held  # noqa: PLW0603 - what a process is
    text = os.environ.pop(_VARIABLE, "")
    if text.isdecimal():
        _held = int(text)
        os.set_inheritable(_held, False)
    return _held is not None


def descriptor() -> int | None:
    """Give the descriptor of the secret, from which `read` reads; None where none is held."""
    return _held


def read(memory: int) -> bytes:
    """Read a secret that another process holds."""
    return os.pread(memory, os.fstat(memory).st_size, 0)


def variables() -> dict[str, str]:
    """Give the variables by which a program finds the secret whose descriptor it inherits."""
    return {} if _held is None else {_VARIABLE: str(_held)}


def descriptors() -> list[int]:
    """List the descriptor that such a program has to inherit."""
    return [] if _held is None else [_held]
