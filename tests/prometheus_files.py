"""Files of prometheus_client's multiprocess mode, written by itself for processes that need not be."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector


def open_file(directory: Path, kind: str, identifier: object) -> MmapedDict:
    """Open the file of a process, which lives until the file is closed."""
    return MmapedDict(str(directory / f"{kind}_{identifier}.db"))


def key_of(name: str, sample: str | None = None, **labels: str) -> str:
    """Give the key of a figure in a file."""
    key: str = mmap_key(name, sample or name, list(labels), list(labels.values()), f"The {name}.")
    return key


def write_file(
    directory: Path,
    kind: str,
    identifier: object,
    value: float,
    *,
    name: str | None = None,
    at: float = 0.0,
    **labels: str,
) -> None:
    """Write one figure as a process that has ended."""
    file = open_file(directory, kind, identifier)
    file.write_value(key_of(name or kind, **labels), value, at)
    file.close()


def scrape(directory: Path) -> dict[str, float]:
    """Read all figures as an application does that is scraped, by their names with their labels."""
    return figures_of(MultiProcessCollector(CollectorRegistry(), str(directory)).collect())


def figures_of(metrics: Iterable[Metric]) -> dict[str, float]:
    """Give the figures of metrics, by their names with their labels."""
    return {
        "".join(
            [it.name, *(f",{key}={value}" for key, value in sorted(it.labels.items()))]
        ): it.value
        for metric in metrics
        for it in metric.samples
    }


def names(directory: Path) -> list[str]:
    """List the files that a scrape reads."""
    return sorted(it.name for it in directory.glob("[!.]*.db"))
