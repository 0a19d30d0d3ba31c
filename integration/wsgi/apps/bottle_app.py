"""A Bottle application: another framework's ways with the same interface."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import bottle

from .checked import checked

FILES: Final = Path(os.environ["EXERCISE_DIRECTORY"], "flask")

plain = bottle.Bottle()


@plain.get("/hello/<name>")
def hello(name: str) -> str:
    return f"Hello {name}"


@plain.post("/form")
def form() -> dict[str, Any]:
    return {name: bottle.request.forms.getall(name) for name in bottle.request.forms}


@plain.post("/upload")
def upload() -> dict[str, Any]:
    file = bottle.request.files["file"]
    return {"name": file.filename, "bytes": len(file.file.read())}


@plain.post("/json")
def echo_json() -> Any:
    return bottle.request.json


@plain.get("/stream")
def stream() -> Iterator[str]:
    bottle.response.content_type = "text/plain; charset=utf-8"
    yield "one "
    yield "zw\N{LATIN SMALL LETTER O WITH DIAERESIS}lf "
    yield "three"


@plain.get("/file/<name>")
def file(name: str) -> Any:
    return bottle.static_file(name, root=str(FILES))


@plain.get("/elsewhere")
def elsewhere() -> None:
    bottle.redirect("hello/there")


@plain.get("/cookie")
def cookie() -> str:
    seen = bottle.request.get_cookie("seen", default="0", secret="not a secret")
    bottle.response.set_cookie("seen", str(int(seen) + 1), secret="not a secret", path="/")
    return str(seen)


application = checked(plain)
