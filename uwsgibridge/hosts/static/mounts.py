"""Chooses between files and applications."""

from __future__ import annotations

from collections.abc import Mapping

from uwsgibridge.hosts.host import Entrance, Host
from uwsgibridge.hosts.mounts import Mounts
from uwsgibridge.hosts.static.host import StaticHost
from uwsgibridge.protocol.request import Request


class MountsBesideFiles(Mounts):
    """The hosts of a worker that has ``--static``.

    Args:
        hosts: as for `Mounts`.
        static: gets the requests that may be for files.
    """

    def __init__(self, hosts: Mapping[str, Host], static: StaticHost) -> None:
        super().__init__(hosts)
        self.hosts = [static, *self.hosts]
        self.file_prefixes = static.prefixes
        self._static = static

    def select(self, request: Request) -> Entrance | None:
        """Find the host of a request that may be for a file."""
        return self._static if self._static.wants(request) else self.select_application(request)
