"""What the module ``uwsgi`` has, as uWSGI 2.0.31 has it; `installing` makes a module of it."""

from __future__ import annotations

import os
import signal as signals
import socket
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from uwsgibridge.system.process_figures import rss_bytes, size_bytes
from uwsgibridge.uwsgi_module import current_request
from uwsgibridge.uwsgi_module.missing import FUNCTIONS, missing_attribute, refusing
from uwsgibridge.uwsgi_module.place import Place, Role
from uwsgibridge.uwsgi_module.schedule import SIGNALS, Cron, Schedule, Timer
from uwsgibridge.uwsgi_module.shared_file import SharedFile

# The version whose module this one is like.
_VERSION: Final = b"2.0.31"
_VERSION_INFO: Final = (2, 0, 31, 0, b"")

_NAME: Final = "uwsgi"


def make_module(place: Place, schedule: Schedule, shared: SharedFile) -> ModuleType:
    """Make the module.

    Args:
        place: what this process is.
        schedule: gets what the application registers.
        shared: has the locks.
    """
    module = ModuleType(_NAME)
    settings = place.settings
    names: dict[str, object] = {
        "version": _VERSION,
        "version_info": _VERSION_INFO,
        "hostname": socket.gethostname().encode(),
        "opt": dict(place.options),
        "numproc": place.processes,
        "cores": settings.threads,
        "has_threads": 1,
        "buffer_size": settings.max_vars_bytes,
        "started_on": int(time.time()),
        "is_a_reload": False,
        "applications": None,
        "loop": None,
        "unbit": None,
        "sockets": [],
        "magic_table": {},
        "SPOOL_OK": -2,
        "SPOOL_RETRY": -1,
        "SPOOL_IGNORE": 0,
        "__getattr__": _find_missing,
    }
    if settings.pid_file:
        names["pidfile"] = settings.pid_file.encode()
    functions = {name: refusing(_NAME, name, instead) for name, instead in FUNCTIONS.items()}
    functions |= _process_functions(place)
    functions |= _request_functions()
    functions |= _lock_functions(place, shared)
    functions |= _schedule_functions(schedule)
    module.__dict__.update(names | functions)
    return module


def _find_missing(name: str) -> object:
    raise missing_attribute(name)


def _process_functions(place: Place) -> dict[str, Callable[..., Any]]:
    def worker_id(*_arguments: object) -> int:
        return place.number

    def mule_id(*_arguments: object) -> int:
        # What runs timers is like a mule: it has the application, and serves nothing.
        return int(place.role is Role.TIMERS)

    def masterpid(*_arguments: object) -> int:
        return place.supervisor_pid

    def workers(*_arguments: object) -> tuple[dict[str, Any], ...]:
        from uwsgibridge.uwsgi_module.figures import describe_workers  # few ask for it

        return describe_workers(place.control_socket)

    def total_requests(*_arguments: object) -> int:
        from uwsgibridge.uwsgi_module.figures import count_requests  # few ask for it

        return count_requests(place.control_socket)

    def reload(*_arguments: object) -> bool | None:
        return _signal_supervisor(place, signals.SIGHUP)

    def stop(*_arguments: object) -> bool | None:
        return _signal_supervisor(place, signals.SIGTERM)

    def log(text: str, *_arguments: object) -> bool:
        sys.stderr.write(f"{text}\n")
        return True

    def mem(*_arguments: object) -> tuple[int, int]:
        pid = os.getpid()
        return rss_bytes(pid) or 0, size_bytes(pid) or 0

    def micros(*_arguments: object) -> int:
        return time.time_ns() // 1000

    def ready(*_arguments: object) -> bool:
        return True

    def zero(*_arguments: object) -> int:
        return 0

    def i_am_the_lord(legion: str) -> bool:
        del legion
        return False

    def i_am_the_spooler(*_arguments: object) -> None:
        return None

    def rpc_list(*_arguments: object) -> tuple[str, ...]:
        return ()

    return {
        "worker_id": worker_id,
        "mule_id": mule_id,
        "masterpid": masterpid,
        "workers": workers,
        "total_requests": total_requests,
        "reload": reload,
        "stop": stop,
        "log": log,
        "mem": mem,
        "micros": micros,
        "ready": ready,
        "ready_fd": lambda *_: -1,
        "logsize": zero,
        "listen_queue": zero,
        "i_am_the_lord": i_am_the_lord,
        "i_am_the_spooler": i_am_the_spooler,
        "rpc_list": rpc_list,
    }


def _signal_supervisor(place: Place, number: signals.Signals) -> bool | None:
    """Send a signal to the supervisor; None where that is not possible, as uWSGI has it."""
    try:
        os.kill(place.supervisor_pid or os.getpid(), number)
    except OSError:
        return None
    return True


def _request_functions() -> dict[str, Callable[..., Any]]:
    def set_logvar(name: str | bytes, value: str | bytes) -> None:
        current_request.set_log_variable(_text(name), _bytes(value))

    def get_logvar(name: str | bytes) -> bytes | None:
        return current_request.get_log_variable(_text(name))

    def set_user_harakiri(seconds: int) -> None:
        if not isinstance(seconds, int):
            raise TypeError(
                f"{type(seconds).__name__!r} object cannot be interpreted as an integer"
            )
        current_request.limit_seconds(max(0, seconds))

    def log_this_request(*_arguments: object) -> None:
        """Do nothing: the access log has all requests, or those that its options name."""

    return {
        "set_logvar": set_logvar,
        "get_logvar": get_logvar,
        "set_user_harakiri": set_user_harakiri,
        "log_this_request": log_this_request,
    }


def _text(value: str | bytes) -> str:
    return _bytes(value).decode("utf-8", "replace")


def _bytes(value: str | bytes) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"a bytes-like object is required, not {type(value).__name__!r}")
    return bytes(value)


def _lock_functions(place: Place, shared: SharedFile) -> dict[str, Callable[..., Any]]:
    written = place.options.get("locks", b"0")
    most = int(written) if isinstance(written, bytes) and written.isdigit() else 0

    def check(number: int) -> int:
        if not 0 <= number <= most:
            raise ValueError("Invalid lock number")
        return number

    def lock(number: int = 0) -> None:
        if not shared.try_lock(check(number)):
            shared.lock(number, current_request.make_check())

    def unlock(number: int = 0) -> None:
        shared.unlock(check(number))

    def is_locked(number: int = 0) -> bool:
        return shared.is_locked(check(number))

    return {"lock": lock, "unlock": unlock, "is_locked": is_locked}


def _schedule_functions(schedule: Schedule) -> dict[str, Callable[..., Any]]:
    def register_signal(number: int, kind: str, function: Callable[[int], object]) -> None:
        del kind  # which processes uWSGI would run it in: here it is one
        if number not in SIGNALS:
            raise OverflowError("a signal's number is between 0 and 255")
        if not callable(function):
            raise TypeError(f"{function!r} can't be called")
        schedule.functions[number] = function

    def signal_registered(number: int) -> bool | None:
        return True if number in schedule.functions else None

    def add_timer(number: int, seconds: float) -> None:
        schedule.timers.append(Timer(number, _positive(seconds)))

    def add_rb_timer(number: int, seconds: float, iterations: int = 0) -> None:
        schedule.timers.append(Timer(number, _positive(seconds), iterations or None))

    def add_cron(number: int, minute: int, hour: int, day: int, month: int, weekday: int) -> bool:
        schedule.crons.append(Cron(number, minute, hour, day, month, weekday))
        return True

    return {
        "register_signal": register_signal,
        "signal_registered": signal_registered,
        "add_timer": add_timer,
        "add_ms_timer": lambda number, milliseconds: add_timer(number, milliseconds / 1000),
        "add_rb_timer": add_rb_timer,
        "add_cron": add_cron,
    }


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError(f"a timer has to be of more than 0 seconds, not {seconds!r}")
    return seconds
