"""What the module ``uwsgi`` tells of all workers: the supervisor is asked for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from uwsgibridge.control.client import ControlError, ask

_ASK_SECONDS: Final = 5.0


def describe_workers(control_socket: str) -> tuple[dict[str, Any], ...]:
    """Describe the workers that serve, in the order of their numbers, with the keys of uWSGI that are known here.

    Args:
        control_socket: of the supervisor; empty where there is none.

    Raises:
        RuntimeError: the supervisor can't be asked.
    """
    status = _ask(control_socket)
    workers = [it for it in status["workers"] if it["generation"] == status["generation"]]
    return tuple(_describe(it) for it in sorted(workers, key=lambda it: it["number"]))


def count_requests(control_socket: str) -> int:
    """Count the requests of all workers since the start; raises as `describe_workers`."""
    return int(_ask(control_socket)["requests"])


def _ask(control_socket: str) -> dict[str, Any]:
    if not control_socket:
        raise RuntimeError(
            "the supervisor can't be asked for its workers: --control-socket makes no socket"
        )
    try:
        return ask(Path(control_socket), "status", timeout_seconds=_ASK_SECONDS)
    except ControlError as error:
        raise RuntimeError(f"the supervisor can't be asked for its workers: {error}") from error


def _describe(worker: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": worker["number"],
        "pid": worker["pid"],
        "requests": worker["requests"] or 0,
        "delta_requests": worker["requests"] or 0,
        "exceptions": worker["app_errors"] or 0,
        "signals": 0,
        "status": b"busy" if worker["in_flight"] else b"idle",
        "rss": worker["rss_bytes"] or 0,
        "vsz": 0,
        "apps": (),
    }
