"""What the module ``uwsgidecorators`` has; `installing` makes a module of it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from uwsgibridge.uwsgi_module.missing import DECORATORS, refusing
from uwsgibridge.uwsgi_module.schedule import SIGNALS

_NAME: Final = "uwsgidecorators"

_Function = Callable[..., Any]


class _PostFork:
    """A function that each worker calls before it serves, or one worker alone; it decorates and is called.

    Args:
        chain: gets it.
        worker_id: tells which worker calls.
        given: the function, or the number of the worker.
    """

    def __init__(
        self, chain: list[Any], worker_id: Callable[[], int], given: _Function | int
    ) -> None:
        self._worker_id = worker_id
        self._function: _Function | None = None
        self._number = 0
        if callable(given):
            self._function = given
        else:
            self._number = given
        chain.append(self)

    def __call__(self, *arguments: Any) -> Any:
        """Call the function, where this is its worker; before that, take the function."""
        if self._function is None:
            self._function = arguments[0]
        elif not self._number or self._number == self._worker_id():
            return self._function()
        return None


def make_module(uwsgi: ModuleType) -> ModuleType:
    """Make the module.

    Args:
        uwsgi: the module ``uwsgi``, whose ``post_fork_hook`` becomes that of the decorators.
    """
    module = ModuleType(_NAME)
    chain: list[Callable[[], Any]] = []
    names: dict[str, object] = {
        name: refusing(_NAME, name, instead) for name, instead in DECORATORS.items()
    }
    names |= {
        "uwsgi": uwsgi,
        "postfork_chain": chain,
        "postfork": functools.partial(_PostFork, chain, uwsgi.worker_id),
        "lock": functools.partial(_lock, uwsgi),
        "thread": _thread,
        "harakiri": functools.partial(_harakiri, uwsgi),
    }
    names |= _by_time(uwsgi)

    def postfork_chain_hook() -> None:
        for one in chain:
            one()

    names["postfork_chain_hook"] = postfork_chain_hook
    uwsgi.post_fork_hook = postfork_chain_hook  # type: ignore[attr-defined] # applications may replace it
    module.__dict__.update(names)
    return module


def _by_time(uwsgi: ModuleType) -> dict[str, object]:
    def get_free_signal() -> int:
        for number in SIGNALS:
            if not uwsgi.signal_registered(number):
                return number
        raise RuntimeError(
            "all 256 signals have a function: there may be that many timers and crons"
        )

    def registering(
        add: Callable[..., object], arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        def decorate(function: _Function) -> _Function:
            number = named["signum"] if "signum" in named else get_free_signal()
            uwsgi.register_signal(number, named.get("target", ""), function)
            add(number, *arguments)
            return function

        return decorate

    def timer(secs: float, **named: Any) -> Any:
        return registering(uwsgi.add_timer, (secs,), named)

    def rbtimer(secs: float, **named: Any) -> Any:
        return registering(uwsgi.add_rb_timer, (secs,), named)

    def cron(minute: int, hour: int, day: int, month: int, dayweek: int, **named: Any) -> Any:
        return registering(uwsgi.add_cron, (minute, hour, day, month, dayweek), named)

    return {"get_free_signal": get_free_signal, "timer": timer, "rbtimer": rbtimer, "cron": cron}


def _lock(uwsgi: ModuleType, function: _Function) -> _Function:
    @functools.wraps(function)
    def locked(*arguments: Any, **named: Any) -> Any:
        uwsgi.lock()
        try:
            return function(*arguments, **named)
        finally:
            uwsgi.unlock()

    return locked


def _thread(function: _Function) -> _Function:
    @functools.wraps(function)
    def start(*arguments: Any) -> _Function:
        threading.Thread(target=function, args=arguments, daemon=True).start()
        return function

    return start


def _harakiri(uwsgi: ModuleType, seconds: int) -> Callable[[_Function], _Function]:
    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def limited(*arguments: Any, **named: Any) -> Any:
            uwsgi.set_user_harakiri(seconds)
            try:
                return function(*arguments, **named)
            finally:
                uwsgi.set_user_harakiri(0)

        return limited

    return decorate
