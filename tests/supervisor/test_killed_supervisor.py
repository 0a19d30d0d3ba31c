"""A supervisor that is killed leaves nobody behind who would keep its addresses."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import pytest

from tests.bridge_process import running_process
from tests.log_events import PATIENCE_SECONDS
from tests.processes import descendants_of, wait_gone
from tests.raw_client import connect, packet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

BLOCKING = """
import pathlib, time

def block():
    pathlib.Path("blocks").touch()
    while True:
        time.sleep(1)

async def app(scope, receive, send):
    block()
"""

# The margin is seconds for whoever runs it, and nothing for a test.
SHORT = """
import uwsgibridge.worker.template

uwsgibridge.worker.template._END_MARGIN_SECONDS = 0.2
"""


@pytest.mark.each("loop")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("where", ["import", "loop"])
def test_a_worker_that_does_not_hear_of_it_is_killed(
    directory: Path, where: str, loop: str
) -> None:
    (directory / "sitecustomize.py").write_text(SHORT)
    (directory / "blocking.py").write_text(BLOCKING + "block()\n" * (where == "import"))
    address = f"unix:{directory}/app.sock"
    with (
        running_process(
            *("serve", "blocking:app", "--bind", address, "--workers", "1", "--loop", loop),
            *("--interface", "asgi", "--lifespan", "off", "--graceful-timeout-seconds", "0.1"),
            directory=directory,
            environment={"PYTHONPATH": str(directory)},
        ) as bridge,
        ExitStack() as stack,
    ):
        if where == "loop":
            client = stack.enter_context(connect(bridge.address))
            client.sendall(packet("/"))
        end = monotonic() + PATIENCE_SECONDS
        while not (directory / "blocks").exists():
            assert monotonic() < end
        template, worker = descendants_of(bridge.pid)
        bridge.signal(signal.SIGKILL)
        assert wait_gone(worker, PATIENCE_SECONDS)
        assert wait_gone(template, PATIENCE_SECONDS)
        bridge.wait()
        assert (
            f"the supervisor is gone, and worker {worker} has not ended in 0.3 s"
            in bridge.events.text()
        )
