"""A marimo notebook, served as an application whose end is the end of its visitors' kernels, too.

marimo mounts each notebook's application in one of its own, and nothing runs the lifespan of what is
mounted. Without the one here, a thread of each visitor's kernel keeps Python from ending.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import marimo
from starlette.applications import Starlette
from starlette.routing import Mount

notebooks: Any = (
    marimo.create_asgi_app(quiet=True)
    .with_app(path="/", root=str(Path(__file__).with_name("marimo_notebook.py")))
    .build()
)


@contextlib.asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    yield
    for route in notebooks.routes:
        if isinstance(route, Mount):
            notebook: Any = route.app
            await notebook.state.session_manager.shutdown()


app = Starlette(routes=[Mount("/", notebooks)], lifespan=lifespan)
