#!/usr/bin/env bash
# marimo 0.25.2: the application that create_asgi_app() builds closes no session when its lifespan ends.
#
# Each notebook's own Starlette application has a lifespan that shuts its sessions down. The builder mounts it in an
# outer one, and Starlette runs no lifespan of what is mounted. So `lifespan.shutdown` is answered at once and the
# kernel of each visitor goes on; its event loop waits for commands in a thread of the default executor ("asyncio_0").
# The kernel's own thread is a daemon, but Python joins the threads of executors at its end, daemons or not: after one
# visit the process does not end by itself. What helps: an outer lifespan that calls
# `await route.app.state.session_manager.shutdown()` for each Mount in `built.routes`; then the thread is gone.
#
# Output seen:
#   lifespan.shutdown answered: lifespan.shutdown.complete
#   threads of the kernel after it: ['asyncio_0']
#   after session_manager.shutdown(): []
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q 'marimo==0.25.2' 2>pip.log || { cat pip.log >&2; exit 1; }

cat > notebook.py <<'PYTHON'
import marimo

app = marimo.App()


@app.cell
def _():
    6 * 7
    return
PYTHON
cat > check.py <<'PYTHON'
import asyncio
import os
import sys
import threading

import marimo
from starlette.routing import Mount

built = marimo.create_asgi_app(quiet=True).with_app(path="/", root="notebook.py").build()
SECONDS = 60


def kernel_threads():
    return [it.name for it in threading.enumerate() if it.name.startswith("asyncio_")]


async def main():
    loop_events, answers = asyncio.Queue(), asyncio.Queue()
    lifespan = asyncio.create_task(
        built({"type": "lifespan", "asgi": {"version": "3.0"}}, loop_events.get, answers.put)
    )
    await loop_events.put({"type": "lifespan.startup"})
    assert (await answers.get())["type"] == "lifespan.startup.complete"

    told, heard = asyncio.Queue(), asyncio.Queue()
    visit = asyncio.create_task(
        built(
            {
                "type": "websocket",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "scheme": "ws",
                "path": "/ws",
                "raw_path": b"/ws",
                "root_path": "",
                "query_string": b"session_id=s_000001",
                "headers": [(b"host", b"localhost")],
                "client": ("127.0.0.1", 1),
                "server": ("127.0.0.1", 80),
                "subprotocols": [],
            },
            told.get,
            heard.put,
        )
    )
    await told.put({"type": "websocket.connect"})
    while "completed-run" not in str(await asyncio.wait_for(heard.get(), SECONDS)):
        pass
    await told.put({"type": "websocket.disconnect", "code": 1000})
    await asyncio.wait_for(visit, SECONDS)

    await loop_events.put({"type": "lifespan.shutdown"})
    answer = (await asyncio.wait_for(answers.get(), SECONDS))["type"]
    await lifespan
    print("lifespan.shutdown answered:", answer)
    # It would be gone at once: nothing but the end of the session wakes it.
    await asyncio.sleep(2)
    after = kernel_threads()
    print("threads of the kernel after it:", after)

    for route in built.routes:
        if isinstance(route, Mount):
            await route.app.state.session_manager.shutdown()
    for _ in range(200):
        if not kernel_threads():
            break
        await asyncio.sleep(0.05)
    print("after session_manager.shutdown():", kernel_threads())
    return (answer, after, kernel_threads()) == ("lifespan.shutdown.complete", ["asyncio_0"], [])


as_seen = asyncio.run(main())
sys.stdout.flush()
os._exit(not as_seen)
PYTHON
venv/bin/python check.py 2>log || { cat log >&2; echo "changed" >&2; exit 1; }
