"""WebSockets of WSGI applications: by simple-websocket, by flask-sock and by Flask-SocketIO."""

from __future__ import annotations

import threading
from typing import Any

import flask
import flask_socketio
from flask_sock import Sock
from simple_websocket import ConnectionClosed, Server

site = flask.Flask(__name__)
sock = Sock(site)
socketio = flask_socketio.SocketIO(site, async_mode="threading", path="/socket.io")


@site.get("/plain")
def plain() -> str:
    return f"plain {threading.current_thread().name}"


@sock.route("/echo/<name>")
def echo(ws: Any, name: str) -> None:
    while True:
        data = ws.receive()
        if data == "close":
            ws.close(4001, "as you wish")
            return
        if data == "return":
            return
        if data == "raise":
            raise ValueError(name)
        if data == "large":
            data = "x" * 3_000_000
        if data == "thread":
            data = threading.current_thread().name
        ws.send(data)


@site.get("/denied", websocket=True)
def denied() -> flask.Response:
    return flask.Response("who are you?", 401)


@socketio.on("shout")
def shout(text: str) -> str:
    flask_socketio.emit("shouted", text.upper())
    return "said"


def bare(environ: dict[str, Any], start_response: Any) -> Any:
    """Repeat messages with simple-websocket alone, and say how it ended."""
    websocket = Server.accept(environ)
    try:
        while True:
            websocket.send(websocket.receive())
    except ConnectionClosed as closed:
        environ["wsgi.errors"].write(f"closed {int(closed.reason)} {closed.message}\n")
    start_response("500 Nobody Sees This", [("Content-Type", "text/plain")])
    return [b"nor this"]
