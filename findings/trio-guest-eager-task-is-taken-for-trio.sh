#!/usr/bin/env bash
# Python 3.12 and later, trio 0.35.0 as a guest of asyncio, sniffio 1.3.1, anyio 4.16.0: an eager asyncio task that a
# trio task makes is taken for a trio task until its first real wait, and for an asyncio task from there on.
#
# An eager task (asyncio.eager_task_factory, or Task(eager_start=True)) runs its first step inside the call that makes it.
# In guest mode that call may come from a trio task, in the same thread. There trio has told sniffio that this thread is
# trio's, by a thread-local variable that sniffio looks at before anything else: so libraries ask, and are told "trio", in
# a coroutine that asyncio.current_task() says is asyncio's. What anyio makes in that step is trio's (its locks, its
# cancel scopes), and the same coroutine goes on under asyncio. With a task that is not eager, nothing of this shows, so
# Python 3.11 never does it, and an upgrade to 3.12 alone does not either: the factory does.
#
# Output seen:
#   not eager  first step: sniffio asyncio, current task asyncio's, anyio.Lock of asyncio | after a wait: asyncio
#   eager      first step: sniffio trio, current task asyncio's, anyio.Lock of trio | after a wait: asyncio
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python=
# On PATH, or where pyenv keeps those that are not.
for candidate in python3.14 python3.13 python3.12 python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python3; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2> /dev/null; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || { echo "needs Python 3.12 or later" >&2; exit 1; }
"$python" -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'trio==0.35.0' 'sniffio==1.3.1' 'anyio==4.16.0'

cat > guest.py <<'PYTHON'
import asyncio
import sys

import anyio
import sniffio
import trio


async def look():
    """An asyncio task: what it is taken for, before and after its first wait."""
    mine = "asyncio's" if asyncio.current_task() is not None else "nobody's"
    lock = type(anyio.Lock()).__module__.rpartition("_")[2]
    first = f"sniffio {sniffio.current_async_library()}, current task {mine}, anyio.Lock of {lock}"
    await asyncio.sleep(0)
    return f"first step: {first} | after a wait: {sniffio.current_async_library()}"


async def main(is_eager):
    loop = asyncio.get_running_loop()
    if is_eager:
        loop.set_task_factory(asyncio.eager_task_factory)
    done = loop.create_future()
    made = []

    async def guest():
        made.append(loop.create_task(look()))

    trio.lowlevel.start_guest_run(
        guest,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        run_sync_soon_not_threadsafe=loop.call_soon,
        done_callback=done.set_result,
    )
    (await done).unwrap()
    return await made[0]


for name, is_eager in (("not eager", False), ("eager", True)):
    print(f"{name:<9}  {asyncio.run(main(is_eager))}")
PYTHON

cat > expected <<'TEXT'
not eager  first step: sniffio asyncio, current task asyncio's, anyio.Lock of asyncio | after a wait: asyncio
eager      first step: sniffio trio, current task asyncio's, anyio.Lock of trio | after a wait: asyncio
TEXT
venv/bin/python guest.py | tee seen
diff expected seen
