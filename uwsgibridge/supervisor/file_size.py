"""Looks whether workers can have the memory files that they count in."""

from __future__ import annotations

import resource

from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import SettingsError


def require_file_size(app_name: str | None, settings: Settings) -> None:
    """Require that the limit on the size of files, which is one of memory files as well (setrlimit(2)), is high enough.

    Raises:
        SettingsError: it is not.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if soft == resource.RLIM_INFINITY:
        return
    # Imported here, since few services have this limit.
    from uwsgibridge.figures.planning import plan_figures, planned_prefixes
    from uwsgibridge.link.flights import FIGURES_OFFSET

    needed = (
        FIGURES_OFFSET + plan_figures(planned_prefixes(app_name, settings), settings).size_bytes
    )
    if soft < needed:
        raise SettingsError(
            f"the limit on the size of files is {soft} bytes, and what a worker counts in has {needed}: raise it "
            "(ulimit -f, LimitFSIZE= of systemd, ulimits: of Compose)"
        )
