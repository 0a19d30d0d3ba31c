"""A WebDAV server: odd methods, XML answers, large files both ways."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from wsgidav.wsgidav_app import WsgiDAVApp

from .checked import checked

_ROOT = Path(os.environ["EXERCISE_DIRECTORY"], "dav")
_ROOT.mkdir(exist_ok=True)


def _share(mount_path: str) -> Any:
    return WsgiDAVApp(
        {
            "provider_mapping": {"/": str(_ROOT)},
            # The library finds the target of a MOVE by cutting this off, and not SCRIPT_NAME.
            "mount_path": mount_path,
            "simple_dc": {"user_mapping": {"*": True}},
            "lock_storage": True,
            "verbose": 1,
            "logging": {"enable": False},
        }
    )


plain = _share("/dav")

application = checked(_share("/dav-checked"))
