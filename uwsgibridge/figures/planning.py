"""Plans what a worker counts in, of its applications and settings."""

from __future__ import annotations

from collections.abc import Iterable

from uwsgibridge.config.buckets import parse_buckets
from uwsgibridge.config.mounts import parse_mount
from uwsgibridge.config.settings import Settings
from uwsgibridge.figures.layout import Layout


def plan_figures(prefixes: Iterable[str], settings: Settings) -> Layout:
    """Plan what a worker counts in.

    Args:
        prefixes: of the mounts; empty for the application at the root.
        settings: with the histograms' bounds and the number of threads.
    """
    bounds = parse_buckets("metrics_buckets", settings.metrics_buckets)
    return Layout.plan(prefixes, bounds, settings.threads)


def planned_prefixes(app_name: str | None, settings: Settings) -> list[str]:
    """Give the prefixes of mounts whose applications are not loaded yet.

    Args:
        app_name: the application at the root, if there is one.
        settings: with the mounts.
    """
    mounted = [parse_mount(it)[0] for it in settings.mount]
    return ["", *mounted] if app_name else mounted
