"""Radicale as its documentation has it for WSGI servers, with a store of its own."""

from __future__ import annotations

import os
from pathlib import Path

from radicale.app import Application
from radicale.config import load

_configuration = load()
_configuration.update(
    {
        "storage": {
            "filesystem_folder": str(Path(os.environ["APPLICATION_DIRECTORY"], "collections"))
        },
        "auth": {"type": "none"},
        "rights": {"type": "owner_only"},
        "logging": {"level": "warning"},
    },
    "of the test",
)

app = Application(_configuration)
