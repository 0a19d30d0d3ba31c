"""The demo's Flask application, at ``/flask``: WSGI, run in the bridge's threads."""

import platform
import threading
import time
from collections.abc import Iterator
from importlib import metadata

from flask import Flask, Response, abort, jsonify, render_template, request

from uwsgibridge.demo.arrived import environ_as_json
from uwsgibridge.demo.receipt import Receipt
from uwsgibridge.demo.streams import (
    STREAM_CHUNKS,
    STREAM_HEADERS,
    STREAM_INTERVAL_SECONDS,
    stream_chunk,
)
from uwsgibridge.demo.web_files import SECURITY_HEADERS, WEB_FILES

_READ_SIZE_BYTES = 65_536
# Looked up once, since each look reads files of the package.
_FLASK_VERSION = metadata.version("flask")

app = Flask(__name__, static_folder=None)
# The page shows what arrived in the order of its arrival.
app.json.sort_keys = False  # type: ignore[attr-defined]  # an attribute of DefaultJSONProvider, typed as its base


@app.after_request
def _add_security_headers(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response


@app.get("/")
def index() -> str:
    """Show the application's addresses and its form."""
    return render_template("flask.html")


@app.post("/")
def greet() -> str:
    """Show what Flask made of the form: its fields, and the file where one was chosen."""
    file = request.files.get("file")
    receipt = Receipt()
    if file is not None:
        while chunk := file.read(_READ_SIZE_BYTES):
            receipt.add(chunk)
    return render_template(
        "flask.html",
        name=request.form.get("name", ""),
        file_name=file.filename if file is not None else "",
        receipt=receipt.report(),
        content_type=request.mimetype,
    )


@app.get("/assets/<name>")
def asset(name: str) -> Response:
    """Send one of the demo's own files."""
    if name not in WEB_FILES:
        abort(404)
    file = WEB_FILES[name]
    return Response(file.body, headers=file.headers)


@app.get("/status")
def status() -> dict[str, str]:
    """Tell what runs this request."""
    return {
        "application": f"Flask {_FLASK_VERSION}",
        "interface": "WSGI",
        "python": platform.python_version(),
        "runs_on": threading.current_thread().name,
    }


@app.get("/environ", defaults={"rest": ""})
@app.get("/environ/<path:rest>")
def environ(rest: str) -> Response:
    """Show this request's environ; any path may follow, to be seen in the environ."""
    response = jsonify(environ_as_json(request.environ))
    response.headers["Cache-Control"] = "no-store"
    return response


@app.get("/stream")
def stream() -> Response:
    """Send one line four times a second, for five seconds."""

    def chunks() -> Iterator[bytes]:
        # When the client leaves, the server closes this generator, and the loop ends there.
        for number in range(1, STREAM_CHUNKS + 1):
            yield stream_chunk(number)
            time.sleep(STREAM_INTERVAL_SECONDS)

    return Response(chunks(), headers=STREAM_HEADERS)


@app.route("/upload", methods=["POST", "PUT"])
def upload() -> dict[str, str | int | float]:
    """Count and hash the body as it comes in."""
    receipt = Receipt()
    while chunk := request.stream.read(_READ_SIZE_BYTES):
        receipt.add(chunk)
    return receipt.report()
