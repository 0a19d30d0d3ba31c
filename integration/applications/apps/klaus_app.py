"""klaus: a repository's pages, and clones over smart HTTP. Its tests make the repository."""

from __future__ import annotations

import os
from pathlib import Path

import klaus

app = klaus.make_app(
    [str(Path(os.environ["APPLICATION_DIRECTORY"], "project"))], "a test", use_smarthttp=True
)
