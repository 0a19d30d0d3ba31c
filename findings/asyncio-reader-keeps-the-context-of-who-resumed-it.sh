#!/usr/bin/env bash
# Python 3.11 and 3.13, asyncio and uvloop 0.23.0: a reader that a task registers anew runs in that task's context for ever.
#
# loop.add_reader() has no context argument: it copies the context of its caller, as call_soon() does, but a reader lives
# on. A server that pauses accepting while it is full (remove_reader) and goes on when a request ends (add_reader, called
# in the end of that request) runs every later callback in a copy of that request's context, and each task that the
# callback starts copies it again. So all requests after the first pause see the context variables of one request: its
# user, its trace id, its language. Nothing shows before the server was full for the first time. call_soon_threadsafe(),
# by which another thread or task would ask for the same, copies its caller's context as well.
#
# The context has to be given by who registers: contextvars.copy_context() at the start, and context.run(loop.add_reader, ...).
#
# Output seen (uvloop's is the same):
#   asyncio  before the pause: user=nobody | after it: user=alice | registered in a context of its own: user=nobody
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'uvloop==0.23.0'

cat > readers.py <<'PYTHON'
import asyncio
import contextvars
import socket

import uvloop

user = contextvars.ContextVar("user", default="nobody")


async def main():
    loop = asyncio.get_running_loop()
    at_start = contextvars.copy_context()
    seen = asyncio.Queue()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def readable():
        ours.recv(1)
        asyncio.create_task(request())

    async def request():
        seen.put_nowait(user.get())

    async def next_one():
        theirs.send(b"x")
        return await asyncio.wait_for(seen.get(), 10)

    loop.add_reader(ours, readable)
    before = await next_one()

    async def request_that_makes_room(register):
        user.set("alice")
        loop.remove_reader(ours)
        register(ours, readable)

    await asyncio.create_task(request_that_makes_room(loop.add_reader))
    after = await next_one()

    def register_at_start(*arguments):
        at_start.copy().run(loop.add_reader, *arguments)

    await asyncio.create_task(request_that_makes_room(register_at_start))
    own = await next_one()
    loop.remove_reader(ours)
    ours.close()
    theirs.close()
    return (
        f"before the pause: user={before} | after it: user={after}"
        f" | registered in a context of its own: user={own}"
    )


for name, factory in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
    with asyncio.Runner(loop_factory=factory) as runner:
        print(f"{name:<7}  {runner.run(main())}")
PYTHON

cat > expected <<'TEXT'
asyncio  before the pause: user=nobody | after it: user=alice | registered in a context of its own: user=nobody
uvloop   before the pause: user=nobody | after it: user=alice | registered in a context of its own: user=nobody
TEXT
venv/bin/python readers.py | tee seen
diff expected seen
