#!/usr/bin/env bash
# starlette 1.10.0 (Python 3.11 and later): whether a StreamingResponse that is silent ends when its client leaves
# depends on the spec_version in the scope. Up to 2.3 it listens for http.disconnect, is cancelled and runs its
# background task; from 2.4 on it never calls receive, and stays until it sends the next piece.
# So a server that announces 2.4 or later keeps each silent stream (server-sent events) of a client that left.
#
# Output seen:
#   2.3: ended=True background=True
#   2.4: ended=False background=False
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
python3 -m venv "$directory/venv"
"$directory/venv/bin/pip" -q install 'starlette==1.10.0' 2>/dev/null
cat > "$directory/seen.py" <<'PYTHON'
import asyncio

from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse


async def ends(spec_version: str) -> str:
    ran = []

    async def silent():
        yield b"data: first\n\n"
        await asyncio.sleep(600)

    async def background() -> None:
        ran.append(True)

    async def receive():
        await asyncio.sleep(0.1)
        return {"type": "http.disconnect"}

    async def send(_message) -> None:
        pass

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": spec_version}}
    response = StreamingResponse(silent(), background=BackgroundTask(background))
    task = asyncio.ensure_future(response(scope, receive, send))
    done, _ = await asyncio.wait([task], timeout=2)
    task.cancel()
    return f"{spec_version}: ended={bool(done)} background={bool(ran)}"


for version in ("2.3", "2.4"):
    print(asyncio.run(ends(version)))
PYTHON
seen=$("$directory/venv/bin/python" "$directory/seen.py")
echo "$seen"
test "$seen" = "2.3: ended=True background=True
2.4: ended=False background=False"
