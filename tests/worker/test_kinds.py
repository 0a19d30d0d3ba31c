"""What a worker has imported: nothing that only applications of the other kind need, once the kind is known."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bridge_process import BridgeProcess, running_process
from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.application.application import Application
from uwsgibridge.client import request
from uwsgibridge.config.settings import Settings
from uwsgibridge.worker.kinds import import_in_advance

# Each answers with the names of the modules that its process has.
APPLICATION = """
import json, sys

def modules(): return json.dumps(sorted(sys.modules)).encode()

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [modules()]

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": modules()})
"""

# What applications of one kind alone need. An application may import asyncio by itself, as this one does not.
OF_ASGI = ("asyncio", "uwsgibridge.hosts.asgi", "uwsgibridge.loop.asyncio_loop")
OF_WSGI = ("uwsgibridge.hosts.wsgi",)
OF_WEBSOCKETS = ("uwsgibridge.protocol.websocket", "uwsgibridge.protocol.websocket_frames")

EVERY_PLACE = pytest.mark.parametrize(
    ("workers", "preload"),
    [(0, ()), (1, ()), (1, ("--preload",)), (2, ()), (2, ("--preload",))],
    ids=["no supervisor", "one", "one, loaded before", "two", "two, loaded before"],
)
EVERY_INTERFACE = pytest.mark.parametrize("chosen", ["auto", "named"])


@contextmanager
def serving(directory: Path, app: str, *arguments: str) -> Iterator[BridgeProcess]:
    (directory / "kinds_app.py").write_text(APPLICATION)
    with running_process(
        *("serve", f"kinds_app:{app}", "--bind", "127.0.0.1:0", "--log-format", "json"),
        *("--lifespan", "off", *arguments),
        directory=directory,
    ) as bridge:
        yield bridge


def modules_of(bridge: BridgeProcess) -> set[str]:
    response = request(bridge.address, timeout_seconds=PATIENCE_SECONDS)
    assert response.status == 200
    return set(json.loads(response.body))


def within(modules: set[str], packages: tuple[str, ...]) -> set[str]:
    return {it for it in modules if it.startswith(tuple(f"{one}." for one in packages))} | (
        modules & set(packages)
    )


@EVERY_PLACE
@EVERY_INTERFACE
def test_a_worker_of_a_wsgi_application_does_without_the_asgi_half(
    tmp_path: Path, workers: int, preload: tuple[str, ...], chosen: str
) -> None:
    interface = "wsgi" if chosen == "named" else "auto"
    with serving(
        tmp_path, "wsgi", "--workers", str(workers), "--interface", interface, *preload
    ) as bridge:
        loaded = modules_of(bridge)
        assert bridge.stop() == 0
    assert "uwsgibridge.hosts.wsgi.host" in loaded
    # A template that did not know the kind has what both kinds need.
    is_shared = workers > 0 and not preload and chosen == "auto"
    assert bool(within(loaded, (*OF_ASGI, *OF_WEBSOCKETS))) is is_shared


@EVERY_PLACE
@EVERY_INTERFACE
@pytest.mark.parametrize("loop", ["auto", "trio"])
def test_an_asgi_application_is_served_wherever_its_half_is_imported(
    tmp_path: Path, workers: int, preload: tuple[str, ...], chosen: str, loop: str
) -> None:
    interface = "asgi" if chosen == "named" else "auto"
    options = ("--workers", str(workers), "--interface", interface, "--loop", loop, *preload)
    with serving(tmp_path, "asgi", *options) as bridge:
        loaded = modules_of(bridge)
        assert bridge.stop() == 0
    assert set(OF_ASGI) - {"uwsgibridge.loop.asyncio_loop"} <= loaded
    is_shared = workers > 0 and not preload and chosen == "auto"
    assert bool(within(loaded, OF_WSGI)) is is_shared


def test_websockets_of_wsgi_are_imported_where_the_option_is_set(tmp_path: Path) -> None:
    options = ("--workers", "1", "--interface", "wsgi", "--wsgi-websockets", "1")
    with serving(tmp_path, "wsgi", *options) as bridge:
        assert set(OF_WEBSOCKETS) <= modules_of(bridge)
        assert bridge.stop() == 0


# What few workers need, and the options that have them need it.
OF_OPTIONS = {
    "uwsgibridge.hosts.static": ("--static", "/static=."),
    "uwsgibridge.hosts.mount_limits": ("--mount-limit", "/=10"),
    "uwsgibridge.telemetry.access_format": ("--access-log-format", "%(status)"),
}


@pytest.mark.parametrize("package", OF_OPTIONS)
@pytest.mark.parametrize("is_given", [True, False])
def test_what_an_option_needs_is_imported_where_it_is_given(
    tmp_path: Path, package: str, is_given: bool
) -> None:
    """By the template, so that all workers are of one version."""
    options = OF_OPTIONS[package] if is_given else ()
    with serving(tmp_path, "wsgi", "--workers", "1", "--interface", "wsgi", *options) as bridge:
        assert bool(within(modules_of(bridge), (package,))) is is_given
        assert bridge.stop() == 0


@pytest.mark.parametrize("package", OF_OPTIONS)
def test_what_an_option_needs_is_imported_before_a_worker_is_forked(package: str) -> None:
    given = {
        "uwsgibridge.hosts.static": {"static": ("/static=.",)},
        "uwsgibridge.hosts.mount_limits": {"mount_limit": ("/=10",)},
        "uwsgibridge.telemetry.access_format": {"access_log_format": "%(status)"},
    }[package]
    code = (
        "import sys\n"
        "from uwsgibridge import Settings\n"
        "from uwsgibridge.worker.kinds import import_in_advance\n"
        f"import_in_advance(Settings(**{given!r}), ())\n"
        f"print(any(it.startswith({package!r}) for it in sys.modules))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert finished.stdout == "True\n"


def test_both_kinds_are_served_side_by_side(tmp_path: Path) -> None:
    with serving(tmp_path, "wsgi", "--workers", "1", "--mount", "/asgi=kinds_app:asgi") as bridge:
        for path in ("/", "/asgi/"):
            assert request(bridge.address, path, timeout_seconds=PATIENCE_SECONDS).status == 200
        assert bridge.stop() == 0


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record which half a template imports."""
    found: list[str] = []
    for name in ("wsgi", "asgi"):
        monkeypatch.setattr(
            f"uwsgibridge.worker.kinds._import_{name}",
            lambda _settings, name=name: found.append(name),
        )
    return found


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (Settings(), ["wsgi", "asgi"]),
        (Settings(interface="wsgi"), ["wsgi"]),
        (Settings(interface="asgi"), ["asgi"]),
    ],
    ids=["auto", "wsgi", "asgi"],
)
def test_a_template_that_has_loaded_nothing_goes_by_the_options(
    imported: list[str], settings: Settings, wanted: list[str]
) -> None:
    import_in_advance(settings, None)
    assert imported == wanted


@pytest.mark.parametrize(
    ("name", "mounted", "wanted"),
    [
        ("mysite.wsgi:application", (), ["wsgi"]),
        ("mysite.asgi", (), ["asgi"]),
        ("wsgi:create_app('mysite.asgi')", (), ["wsgi"]),
        ("/srv/mysite/wsgi.py:app", (), ["wsgi"]),
        ("/srv/my.asgi/mysite.wsgi", (), ["wsgi"]),
        ("mysite.wsgi", ("/api=api.asgi:app",), ["wsgi", "asgi"]),
        ("mysite.wsgi", ("/api=api:app",), ["wsgi", "asgi"]),
        ("mywsgi:wsgi", (), ["wsgi", "asgi"]),
        ("wsgi.main:app", (), ["wsgi", "asgi"]),
    ],
)
def test_a_template_that_has_loaded_nothing_goes_by_the_names(
    imported: list[str], name: str, mounted: tuple[str, ...], wanted: list[str]
) -> None:
    import_in_advance(Settings(mount=mounted), None, name)
    assert imported == wanted


def test_an_option_counts_more_than_a_name(imported: list[str]) -> None:
    import_in_advance(Settings(interface="asgi"), None, "mysite.wsgi")
    assert imported == ["asgi"]


@pytest.mark.parametrize(("module", "app"), [("asgi", "wsgi"), ("wsgi", "asgi")])
def test_an_application_is_served_whatever_its_module_is_named(
    tmp_path: Path, module: str, app: str
) -> None:
    (tmp_path / f"{module}.py").write_text(APPLICATION)
    with running_process(
        *("serve", f"{module}:{app}", "--bind", "127.0.0.1:0", "--log-format", "json"),
        *("--lifespan", "off", "--workers", "1"),
        directory=tmp_path,
    ) as bridge:
        assert f"uwsgibridge.hosts.{app}.host" in modules_of(bridge)
        assert bridge.stop() == 0


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_a_template_that_has_loaded_applications_goes_by_these(
    imported: list[str], interface: str
) -> None:
    import_in_advance(Settings(workers=4), [Application(print, interface, "name")])
    assert imported == [interface]
