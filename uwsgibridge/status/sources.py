"""Where the figures come from that are published."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from uwsgibridge.config.settings import MetricsNames
from uwsgibridge.figures.family import Family
from uwsgibridge.figures.snapshot import Snapshot
from uwsgibridge.figures.uwsgi_exporter import exporter_families
from uwsgibridge.figures.uwsgi_statistics import uwsgi_statistics
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.telemetry.logs import Logger


@dataclass(frozen=True, slots=True)
class Sources:
    """Three ways to ask a service for its figures.

    Attributes:
        collect: gives all figures; a worker that does not answer may hold it up for a second at the most.
        snapshot: gives the state of the service, as `collect` does.
        glance: gives the state as far as it is known, at once.
    """

    collect: Callable[[], Awaitable[Sequence[Family]]]
    snapshot: Callable[[], Awaitable[Snapshot]]
    glance: Callable[[], Snapshot]


async def families_or_none(
    sources: Sources, names: MetricsNames, logger: Logger
) -> Sequence[Family] | None:
    """Collect figures as `families_named` does; a fault is logged, and gives None."""
    try:
        return await families_named(sources, names)
    except Exception:
        logger.exception("figures can't be collected")
        return None


async def families_named(sources: Sources, names: MetricsNames) -> Sequence[Family]:
    """Collect figures, with the names that ``--metrics-names`` asks for."""
    if names == "uwsgi_exporter":
        return exporter_families(uwsgi_statistics(await sources.snapshot()))
    return await sources.collect()
