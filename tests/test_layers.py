"""Imports go one way: what the wire is knows nothing of who serves it.

All import statements count, those for type checking and those inside functions too: a layer that
needs the one above it to be understood is not below it.
"""

from __future__ import annotations

import ast
import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

import uwsgibridge
from uwsgibridge.protocol.packet import PING, PONG

PACKAGE: Final = "uwsgibridge"
SOURCE: Final = Path(uwsgibridge.__file__).parent
PATIENCE_SECONDS: Final = 60.0

# The plan: a room is a package or a module at the top; each with the rooms that it may import. What
# stands between a frontend and an application comes first, then the two kinds of process, then what
# a person starts. docs/architecture.md tells what each is for.
_WIRE: Final = {"protocol.errors", "protocol"}
_GROUND: Final = {*_WIRE, "errors", "quick_dataclass", "system", "config"}
_HOSTING: Final = {*_GROUND, "loop", "connection", "figures", "telemetry", "link"}
BELOW: Final[dict[str, set[str]]] = {
    "_version": set(),
    "errors": set(),
    "quick_dataclass": set(),
    "fast": set(),
    "figures": {"errors", "quick_dataclass", "config", "system", "fast"},
    "protocol.errors": set(),
    "protocol": {"protocol.errors", "quick_dataclass", "fast"},
    "system": {"errors", "quick_dataclass"},
    "config": {*_GROUND - {"config"}},
    "loop": {"errors", "fast"},
    "multiproc": {"errors", "system"},
    "connection": {*_GROUND, "loop", "fast"},
    "telemetry": {*_GROUND, "connection", "figures", "fast", "_version"},
    "link": {*_GROUND},
    "status": {*_GROUND, "connection", "telemetry", "figures"},
    "live_page": {"quick_dataclass"},
    "commands": {*_GROUND, "telemetry"},
    "uwsgi_module": {"errors", "system", "config", "control"},
    "application": {*_GROUND, "loop", "telemetry", "uwsgi_module"},
    "hosts": {*_HOSTING, "fast"},
    "hosts.wsgi": {*_HOSTING, "application", "hosts", "fast", "_version"},
    "hosts.asgi": {*_HOSTING, "application", "hosts", "fast"},
    "hosts.static": {*_HOSTING, "hosts"},
    # The child and the parent: neither imports the other.
    "worker": {
        *_HOSTING, "commands", "application", "hosts", "hosts.wsgi", "hosts.asgi", "hosts.static",
        "fast", "multiproc", "uwsgi_module", "figures", "status", "_version",
    },
    "supervisor": {
        *_GROUND, "connection", "telemetry", "link", "commands", "control", "fast", "multiproc", "uwsgi_module", "figures",
        "status", "live_page", "_version",
    },
    # These stand beside the bridge: they speak to it from outside, or configure Nginx.
    "control": {*_GROUND, "connection", "telemetry"},
    "client": {*_WIRE, "config"},
    "frontend": {"config"},
    "explain": set(),
    "frontend.check": {"config"},
    "demo": {"_version"},
    "testing": {"system", "config", "client", "frontend"},
    # Reads what other servers are configured by.
    "migration": {"errors", "config", "uwsgi_module"},
    # Above all: what a person starts.
    "cli": {
        *_GROUND, "connection", "telemetry", "worker", "supervisor", "control", "client", "frontend",
        "frontend.check", "explain", "demo", "migration", "multiproc", "_version",
    },
    "__main__": {"cli", "system"},
}  # fmt: skip

# What does or waits for I/O; sans-I/O code has no use for any of it.
IO_MODULES: Final = {
    "_socket", "asyncio", "concurrent", "io", "multiprocessing", "os", "queue", "sched", "select",
    "selectors", "signal", "socket", "socketserver", "ssl", "subprocess", "threading", "time",
}  # fmt: skip


def _module_files() -> dict[str, Path]:
    """All modules of the package but the package itself, whose attributes are loaded when asked for."""
    modules = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            modules[name] = path
    return modules


MODULES: Final = _module_files()


def _names_of_the_package() -> dict[str, str]:
    """What `uwsgibridge` itself offers, and the module that each comes from."""
    tree = ast.parse((SOURCE / "__init__.py").read_text("utf-8"))
    return {
        name.name: node.module.removeprefix(f"{PACKAGE}.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PACKAGE)
        for name in node.names
    }


def imported_names(module: str) -> Iterator[str]:
    """Yield the absolute name of everything that a module imports, wherever the statement stands."""
    path = MODULES[module]
    package = [PACKAGE, *module.split(".")]
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                base = [*package[: len(package) - node.level + 1], *base]
            yield from (".".join([*base, name.name]) for name in node.names)


def imported_modules(module: str) -> set[str]:
    """Give the package's own modules that a module imports."""
    found = set()
    for name in imported_names(module):
        own, dot, rest = name.partition(".")
        if own != PACKAGE:
            continue
        assert dot, f"{module} imports the whole package"
        while rest and rest not in MODULES:  # down to the module that a name is in
            offered = NAMES.get(rest)
            rest = offered or rest.rpartition(".")[0]
        assert rest, f"{module} imports {name}, which is no module"
        found.add(rest)
    return found - {module}


NAMES: Final = _names_of_the_package()


def room_of(module: str) -> str:
    inner = ".".join(module.split(".")[:2])
    return inner if inner in BELOW else module.partition(".")[0]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_one_way(module: str) -> None:
    room = room_of(module)
    assert room in BELOW, f"say in the table what {room} may import"
    upward = {it for it in imported_modules(module) if room_of(it) not in BELOW[room] | {room}}
    assert not upward, f"{module} is not above {', '.join(sorted(upward))}"


def test_the_table_has_one_direction() -> None:
    order = list(TopologicalSorter(BELOW).static_order())  # raises CycleError
    for lower, higher in (
        ("protocol.errors", "protocol"),
        ("protocol", "hosts"),
        ("hosts", "worker"),
        ("link", "worker"),
        ("link", "supervisor"),
        ("supervisor", "cli"),
    ):
        assert order.index(lower) < order.index(higher)
        assert lower in BELOW[higher]


def test_parent_and_child_know_only_what_links_them() -> None:
    """A supervisor stays small and outlives what it starts; a worker serves without one."""
    for room, other in (("supervisor", "worker"), ("worker", "supervisor")):
        modules = [module for module in MODULES if room_of(module) == room]
        assert modules
        for module in modules:
            assert other not in {room_of(it) for it in imported_modules(module)}, module


def test_no_two_modules_need_each_other() -> None:
    graph = {module: imported_modules(module) for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_the_statements_are_found() -> None:
    """Those in functions and those for type checking as well, or the tests above prove nothing."""
    assert "uwsgibridge.worker.process.run_process" in set(imported_names("cli.service"))
    assert "worker.process" in imported_modules("cli.service")
    assert "config.settings" in imported_modules("hosts.context")
    assert "_version" in imported_modules("demo.page")


@pytest.mark.parametrize("module", sorted(m for m in MODULES if room_of(m) in _WIRE))
def test_the_protocol_is_sans_io(module: str) -> None:
    tops = {name.partition(".")[0] for name in imported_names(module)}
    foreign = tops - sys.stdlib_module_names - {PACKAGE, "websockets"}
    assert not foreign
    assert not tops & IO_MODULES


@pytest.mark.parametrize(
    "module", sorted(m for m in MODULES if room_of(m) in {"config", "client", "errors"})
)
def test_what_a_health_check_needs_is_only_the_standard_library(module: str) -> None:
    tops = {name.partition(".")[0] for name in imported_names(module)} - {"_typeshed"}
    assert not tops - sys.stdlib_module_names - {PACKAGE}
    assert "asyncio" not in tops


def newly_loaded(code: str, *arguments: str) -> set[str]:
    """Run code in an interpreter of its own and tell which modules it has loaded."""
    script = (
        "import json, sys\n"
        "before = set(sys.modules)\n"
        f"{code}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=SOURCE.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return set(json.loads(finished.stdout))


def test_importing_the_protocol_loads_no_io() -> None:
    modules = sorted(m for m in MODULES if room_of(m) in _WIRE)
    loaded = newly_loaded("\n".join(f"import {PACKAGE}.{module}" for module in modules))
    assert {f"{PACKAGE}.{module}" for module in modules} <= loaded
    assert not loaded & {"trio", "asyncio", "socket", "_socket", "select", "selectors", "ssl"}
    assert {m.split(".")[1] for m in loaded if m.startswith(f"{PACKAGE}.")} <= {
        "protocol", "fast", "quick_dataclass", "_version"
    }  # fmt: skip


def test_a_supervisor_loads_nothing_that_serves() -> None:
    """It stays small, and starts while its template loads the rest."""
    loaded = newly_loaded("import uwsgibridge.supervisor.supervisor")
    assert "uwsgibridge.supervisor.health" in loaded
    assert not loaded & {"uwsgibridge.worker.worker", "uwsgibridge.hosts.wsgi.host", "websockets"}


def test_a_ping_loads_no_event_loop() -> None:
    """It is a health check: every few seconds, in an interpreter of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE_SECONDS)
        received = []

        def answer() -> None:
            with contextlib.suppress(OSError), listening.accept()[0] as accepted:
                accepted.settimeout(PATIENCE_SECONDS)
                received.append(accepted.recv(100))
                accepted.sendall(PONG)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            loaded = newly_loaded(
                "from uwsgibridge.client import ping\nping(sys.argv[1])",
                f"127.0.0.1:{listening.getsockname()[1]}",
            )
        finally:
            listening.shutdown(socket.SHUT_RDWR)  # wakes a thread that nobody has called
            thread.join(PATIENCE_SECONDS)
    assert received == [PING]
    assert "uwsgibridge.client" in loaded
    assert "uwsgibridge.client.tls_route" not in loaded  # for TLS alone
    assert not {m.partition(".")[0] for m in loaded} & {"trio", "asyncio", "structlog", "click"}


def test_a_log_of_json_loads_no_renderer_for_people() -> None:
    """Each start would import it, and whatever it imports."""
    loaded = newly_loaded(
        "import uwsgibridge.cli.serve, uwsgibridge.supervisor.supervisor, uwsgibridge.worker.template\n"
        "from uwsgibridge.telemetry.logs import make_logger\n"
        "make_logger('json').info('listening')"
    )
    assert "uwsgibridge.telemetry.logs" in loaded
    assert not {m.partition(".")[0] for m in loaded} & {"structlog", "rich"}


def test_no_functions_are_compiled_for_the_data_classes_of_a_start() -> None:
    """`uwsgibridge.quick_dataclass` is for them; the decorator of the standard library takes most of a millisecond for each."""
    code = (
        "import json, sys, uwsgibridge.cli.serve, uwsgibridge.cli.service\n"
        "from uwsgibridge import Settings\n"
        "from uwsgibridge.worker.kinds import import_in_advance\n"
        "uwsgibridge.cli.service.import_for_service()\n"
        "import_in_advance(Settings(interface='wsgi'), None)\n"
        "found = {one for name, module in list(sys.modules.items()) if name.startswith('uwsgibridge.')\n"
        "         for one in vars(module).values() if hasattr(one, '__dataclass_params__') and isinstance(one, type)}\n"
        "print(json.dumps({f'{it.__module__}.{it.__name__}': it.__dataclass_params__.init for it in found}))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    is_compiled = json.loads(finished.stdout)
    assert "uwsgibridge.config.settings.Settings" in is_compiled
    assert not [name for name, it in is_compiled.items() if it]
