"""The same answer through Flask: what a real WSGI framework adds to the server's cost."""

from __future__ import annotations

from flask import Flask, Response

from benchmarks.apps import BODY

app = Flask(__name__)


@app.get("/")
def hello() -> Response:
    """Answer with BODY; Werkzeug sets the Content-Length."""
    return Response(BODY, content_type="text/plain")
