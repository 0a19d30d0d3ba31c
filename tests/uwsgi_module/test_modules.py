"""The modules as an application sees them: names, types, errors and decorators."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import SettingsError
from uwsgibridge.uwsgi_module import decorators
from uwsgibridge.uwsgi_module.missing import ATTRIBUTES, DECORATORS, FUNCTIONS
from uwsgibridge.uwsgi_module.place import (
    OPTIONS_VARIABLE,
    SHARED_VARIABLE,
    Place,
    Role,
    Value,
    read_place,
    write_options,
    write_shared,
)
from uwsgibridge.uwsgi_module.schedule import Cron, Schedule, Timer
from uwsgibridge.uwsgi_module.shared_file import SharedFile
from uwsgibridge.uwsgi_module.uwsgi import make_module


class Modules:
    """Both modules of a process, and what they know."""

    def __init__(self, **environment: str) -> None:
        self.place: Place = read_place(
            Settings(uwsgi_module=True, workers=3, threads=2), environment
        )
        self.schedule = Schedule()
        self.uwsgi: Any = make_module(self.place, self.schedule, SharedFile(""))
        self.decorators: Any = decorators.make_module(self.uwsgi)


@pytest.fixture
def modules() -> Modules:
    return Modules(**{SHARED_VARIABLE: write_shared(4711, "", "")})


def test_what_packages_look_for(modules: Modules) -> None:
    uwsgi = modules.uwsgi
    assert isinstance(uwsgi, ModuleType)
    assert uwsgi.__name__ == "uwsgi"
    assert uwsgi.version.startswith(b"2.0.")
    assert uwsgi.version_info[:2] == (2, 0)
    assert (uwsgi.numproc, uwsgi.cores, uwsgi.has_threads) == (3, 2, 1)
    assert uwsgi.masterpid() == 4711
    assert (uwsgi.worker_id(), uwsgi.mule_id()) == (0, 0)
    modules.place.role, modules.place.number = Role.WORKER, 2
    assert (uwsgi.worker_id(), uwsgi.mule_id()) == (2, 0)
    modules.place.role, modules.place.number = Role.TIMERS, 0
    assert (uwsgi.worker_id(), uwsgi.mule_id()) == (0, 1)
    assert not hasattr(uwsgi, "atexit")
    assert not hasattr(uwsgi, "spooler")
    assert uwsgi.i_am_the_lord("legion") is False


def test_options_are_texts_with_values_in_bytes() -> None:
    options: dict[str, Value] = {
        "module": b"app",
        "flag": b"",
        "master": True,
        "my-name": "ä".encode(),
    }
    whole = Modules(**{OPTIONS_VARIABLE: write_options(options, is_all=True)})
    assert whole.uwsgi.opt == options
    own = Modules(**{OPTIONS_VARIABLE: write_options(options, is_all=False)})
    assert own.uwsgi.opt == options | {
        "enable-threads": b"true",
        "processes": b"3",
        "threads": b"2",
        "lazy-apps": b"true",
    }
    assert Modules().uwsgi.opt["processes"] == b"3"


@pytest.mark.parametrize("text", ["{", "[1]", '{"own": 3}', '"x"'])
def test_a_broken_variable_of_options_is_an_error(text: str) -> None:
    with pytest.raises(SettingsError, match="UWSGIBRIDGE_UWSGI is not of the form"):
        Modules(**{OPTIONS_VARIABLE: text})


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_what_is_not_served_says_so_at_the_call(modules: Modules, name: str) -> None:
    function = getattr(modules.uwsgi, name)
    with pytest.raises(NotImplementedError, match=rf"^uwsgi\.{name} is not served .*: .") as raised:
        function("x", y=2)
    assert FUNCTIONS[name] in str(raised.value)


@pytest.mark.parametrize("name", [*sorted(ATTRIBUTES), "sharedarea_read", "snmp_set_gauge"])
def test_what_uwsgi_has_only_where_it_is_configured_is_not_there(
    modules: Modules, name: str
) -> None:
    assert not hasattr(modules.uwsgi, name)
    with pytest.raises(AttributeError, match=rf"has no attribute '{name}': ."):
        getattr(modules.uwsgi, name)


def test_any_other_name_is_not_there_either(modules: Modules) -> None:
    with pytest.raises(AttributeError, match=r"^module 'uwsgi' has no attribute 'other'$"):
        _ = modules.uwsgi.other


@pytest.mark.parametrize("name", sorted(DECORATORS))
def test_decorators_without_their_like_say_so_at_once(modules: Modules, name: str) -> None:
    with pytest.raises(NotImplementedError, match=rf"^uwsgidecorators\.{name} is not served"):
        getattr(modules.decorators, name)(lambda: None)


def test_postfork_calls_all_or_one_worker(modules: Modules) -> None:
    postfork, called = modules.decorators.postfork, list[str]()

    @postfork
    def everywhere() -> None:
        called.append("everywhere")

    @postfork(2)
    def second() -> None:
        called.append("second")

    modules.place.number = 1
    modules.uwsgi.post_fork_hook()
    assert called == ["everywhere"]
    modules.place.number = 2
    modules.uwsgi.post_fork_hook()
    assert called == ["everywhere", "everywhere", "second"]


def test_timers_and_crons_are_registered(modules: Modules) -> None:
    @modules.decorators.timer(5)
    def first(number: int) -> None: ...

    @modules.decorators.cron(59, 2, -1, -1, -1, target="mule")
    def second(number: int) -> None: ...

    @modules.decorators.rbtimer(7, signum=40)
    def third(number: int) -> None: ...

    assert modules.schedule.functions == {0: first, 1: second, 40: third}
    assert modules.schedule.timers == [Timer(0, 5), Timer(40, 7)]
    assert modules.schedule.crons == [Cron(1, 59, 2, -1, -1, -1)]
    assert modules.uwsgi.signal_registered(40) is True
    assert modules.uwsgi.signal_registered(41) is None
    modules.uwsgi.add_rb_timer(40, 2, 3)
    assert modules.schedule.timers[-1] == Timer(40, 2, 3)
    with pytest.raises(ValueError, match="more than 0 seconds"):
        modules.uwsgi.add_timer(40, 0)
    with pytest.raises(OverflowError):
        modules.uwsgi.register_signal(256, "", first)


def test_signals_end(modules: Modules) -> None:
    for _ in range(256):
        modules.decorators.timer(5)(print)
    with pytest.raises(RuntimeError, match="all 256 signals"):
        modules.decorators.timer(5)(print)


def test_locks_have_numbers() -> None:
    uwsgi = Modules().uwsgi
    for number in (-1, 1):
        with pytest.raises(ValueError, match="Invalid lock number"):
            uwsgi.lock(number)
    more = Modules(**{OPTIONS_VARIABLE: write_options({"locks": b"2"}, is_all=True)}).uwsgi
    with pytest.raises(RuntimeError):  # the number is one, and there is no file
        more.lock(2)
    with pytest.raises(ValueError, match="Invalid lock number"):
        more.lock(3)


def test_a_thread_runs_the_function(modules: Modules) -> None:
    import threading

    ran = threading.Event()
    assert modules.decorators.thread(ran.set)() == ran.set
    assert ran.wait(10)


def test_what_needs_a_request_does_nothing_outside_of_one(modules: Modules) -> None:
    modules.uwsgi.set_logvar("user", "x")
    assert modules.uwsgi.get_logvar("user") is None
    modules.uwsgi.set_user_harakiri(3)
    with pytest.raises(TypeError):
        modules.uwsgi.set_user_harakiri(1.5)
    with pytest.raises(TypeError, match="bytes-like"):
        modules.uwsgi.set_logvar("user", 5)


def test_workers_are_known_to_the_supervisor_alone(modules: Modules) -> None:
    with pytest.raises(RuntimeError, match="--control-socket"):
        modules.uwsgi.workers()
