"""Each frontend that is here, before the bridge and before uWSGI itself."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import pytest

from integration.frontends.running import (
    FRONTENDS,
    HERE,
    Frontend,
    Site,
    run_frontend,
    run_uwsgi,
    why_no_uwsgi,
)
from uwsgibridge.testing import BridgeProcess

Server: TypeAlias = Literal["bridge", "uwsgi", "lines-wsgi", "lines-asgi"]

# What the bridge serves.
APPLICATIONS = {
    "bridge": "told:application",
    "lines-wsgi": "lines:wsgi",
    "lines-asgi": "lines:asgi",
}
Behind: TypeAlias = Callable[[Frontend, Server], Site]

NGINXES = [one for one in FRONTENDS if one.family == "nginx"]

each_nginx = pytest.mark.parametrize("frontend", NGINXES, ids=str)


@pytest.fixture(scope="session")
def behind() -> Iterator[Behind]:
    """Run a frontend before a server; each pair once, as long as the tests last."""
    with contextlib.ExitStack() as running:
        top = Path(tempfile.mkdtemp(prefix="uwsgibridge-frontends-"))
        running.callback(shutil.rmtree, top, ignore_errors=True)
        top.chmod(0o755)  # Apache is another user than root
        servers: dict[Server, str] = {}
        sites: dict[tuple[Frontend, Server], Site] = {}

        def start_server(server: Server) -> str:
            path = top / f"{server}.sock"
            if server == "uwsgi":
                running.enter_context(run_uwsgi("told:application", top, str(path)))
            else:
                arguments = (APPLICATIONS[server], "--app-dir", str(HERE / "apps"))
                bind = ("--bind", f"unix:{path}", "--socket-mode", "666")
                running.enter_context(BridgeProcess(*arguments, *bind))
            return str(path)

        def behind(frontend: Frontend, server: Server) -> Site:
            if frontend.missing:
                pytest.skip(frontend.missing)
            if server == "uwsgi" and (missing := why_no_uwsgi()):
                pytest.skip(missing)
            if server not in servers:
                servers[server] = start_server(server)
            if (frontend, server) not in sites:
                directory = top / f"{frontend}-{server}"
                directory.mkdir()
                site = running.enter_context(run_frontend(frontend, directory, servers[server]))
                sites[frontend, server] = site
            return sites[frontend, server]

        yield behind
