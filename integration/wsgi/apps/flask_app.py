"""A Flask application with what Flask applications do."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from flask import (
    Flask,
    Response,
    jsonify,
    redirect,
    request,
    send_file,
    session,
    stream_with_context,
    url_for,
)
from werkzeug.wrappers import Response as AnyResponse

from .checked import checked
from .sendfile_count import sendfile_bytes

FILES: Final = Path(os.environ["EXERCISE_DIRECTORY"], "flask")

plain = Flask(__name__)
plain.secret_key = "not a secret"
# With a limit werkzeug asks for pieces of a size; without one for "the rest", which the validator,
# stricter than Python's own files, does not allow.
plain.config["MAX_CONTENT_LENGTH"] = 64 * 1024 * 1024

# The session's cookie is for the whole host, as it is for one application alone.
plain.config["SESSION_COOKIE_PATH"] = "/"


@plain.get("/")
def index() -> str:
    return "index"


@plain.get("/where/<path:rest>")
def where(rest: str) -> Response:
    return jsonify(
        here=url_for("where", rest=rest),
        outside=url_for("where", rest=rest, _external=True),
        script_root=request.script_root,
        path=request.path,
        url=request.url,
    )


@plain.post("/form")
def form() -> Response:
    return jsonify({name: request.form.getlist(name) for name in request.form})


@plain.post("/upload")
def upload() -> Response:
    return jsonify(
        title=request.form.get("title"),
        files=[
            {
                "field": field,
                "name": file.filename,
                "type": file.mimetype,
                "bytes": len(content := file.read()),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            for field, file in request.files.items(multi=True)
        ],
    )


@plain.post("/json")
def echo_json() -> Response:
    return jsonify(request.get_json())


@plain.post("/body")
def body() -> str:
    return str(len(request.get_data()))


@plain.post("/log-in")
def log_in() -> AnyResponse:
    session["name"] = request.form["name"]
    return redirect(url_for("me"), 303)


@plain.post("/log-out")
def log_out() -> AnyResponse:
    session.clear()
    return redirect(url_for("me"), 303)


@plain.get("/me")
def me() -> str:
    return str(session.get("name", "nobody"))


@plain.get("/stream/<int:count>")
def stream(count: int) -> Response:
    def generate() -> Iterator[str]:
        for number in range(count):
            # The request is still the one that began the answer.
            yield f"{number} {request.args['word']}\n"

    return Response(stream_with_context(generate()), mimetype="text/plain")


@plain.get("/file/<name>")
def file(name: str) -> AnyResponse:
    return send_file(FILES / name, conditional=True, as_attachment="download" in request.args)


@plain.get("/sendfile-bytes")
def count() -> str:
    return str(sendfile_bytes())


@plain.get("/fails")
def fails() -> str:
    raise RuntimeError("a failure that Flask answers and logs itself")


application = checked(plain)
