"""Plans what a worker counts in, of its applications and settings."""

from __future__ import annotations

from uwsgibridge.config.buckets import parse_buckets
from uwsgibridge.config.mounts import parse_mount
from uwsgibridge.config.settings import Settings
from uwsgibridge.figures.layout import Layout


def plan_figures(app_name: str | None, settings: Settings) -> Layout:
    """Plan what a worker counts in.

    Args:
        app_name: the application at the root, if there is one.
        settings: with the mounts.
    """
    mounted = [parse_mount(it)[0] for it in settings.mount]
    bounds = parse_buckets("metrics_buckets", settings.metrics_buckets)
    return Layout.plan(["", *mounted] if app_name else mounted, bounds, settings.threads)
