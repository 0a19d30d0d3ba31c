"""WsgiDAV with a directory for everybody."""

from __future__ import annotations

import os
from pathlib import Path

from wsgidav.wsgidav_app import WsgiDAVApp

_SHARE = Path(os.environ["APPLICATION_DIRECTORY"], "share")
_SHARE.mkdir(exist_ok=True)

app = WsgiDAVApp(
    {
        "provider_mapping": {"/": str(_SHARE)},
        "simple_dc": {"user_mapping": {"*": True}},
        "lock_storage": True,
        "verbose": 1,
        "logging": {"enable": False},
    }
)
