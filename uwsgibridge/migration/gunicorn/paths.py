"""Makes paths absolute as gunicorn does: by their text alone."""

from __future__ import annotations

import os.path


def absolute(name: str, directory: str) -> str:
    """Make a path absolute, without looking at links.

    Args:
        name: the path.
        directory: that a relative path begins at; absolute.
    """
    return os.path.normpath(os.path.join(directory, name))  # noqa: PTH118 - no system call
