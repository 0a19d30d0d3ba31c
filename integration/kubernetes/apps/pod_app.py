"""What a pod serves in tests: a quick answer, one that takes its time, a stream that ends when it is told to, and what was told."""

import asyncio


async def application(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/told":
        told = f"{scope['scheme']} {scope['client'][0]}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": told})
        return
    answer = {"/": quick, "/slow": slow, "/events": events}[scope["path"]]
    await answer(receive, send)


async def quick(receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"quick"})


async def slow(receive, send):
    await asyncio.sleep(2)  # what a request takes, not a wait for something
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"slow"})


async def events(receive, send):
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: hello\n\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    await send({"type": "http.response.body", "body": b"data: goodbye\n\n"})
