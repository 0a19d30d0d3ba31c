"""Chooses the host of a request: the longest prefix of the path wins, at path boundaries."""

from __future__ import annotations

from collections.abc import Mapping

from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.host import Entrance, Host
from uwsgibridge.protocol.request import Request, is_below


class Mounts:
    """The hosts of a worker by the prefix below which they serve.

    Args:
        hosts: by prefix, which has no slash at its end; the empty prefix gets all other paths.

    Attributes:
        only: the host that gets all requests; None where the path chooses.
        hosts: all of them.
        file_prefixes: prefixes of paths at which files may be served; the accelerator leaves GET and HEAD of these to Python.
    """

    file_prefixes: tuple[str, ...] = ()

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self.only = hosts.get("") if len(hosts) == 1 else None
        # PATH_INFO has UTF-8 bytes, decoded as latin-1.
        on_the_wire = ((prefix.encode().decode("latin-1"), host) for prefix, host in hosts.items())
        self._by_length = sorted(on_the_wire, key=lambda item: len(item[0]), reverse=True)
        self.hosts = list(hosts.values())

    @property
    def connections(self) -> list[Connection]:
        """List the connections whose requests wait for a place; see `hosts.mount_limits`."""
        return []

    def resume(self) -> None:
        """Run requests that have waited, where there is room."""

    def select_application(self, request: Request) -> Entrance | None:
        """Find the host, and move its prefix from PATH_INFO to SCRIPT_NAME (PEP 3333).

        A prefix that SCRIPT_NAME has already comes once. Where the frontend's prefix has nothing to do with a mount,
        the mount's goes behind it.

        Returns:
            The host; None where no application is mounted at the path.
        """
        if self.only is not None:
            return self.only
        path = request.vars["PATH_INFO"]
        if script_name := request.vars["SCRIPT_NAME"]:
            # The stock params of nginx leave the prefix in PATH_INFO; `rewrite` and modifier1 30 cut it off. Of the latter it
            # is known, and what is left may begin with the same text: /b/b/x below /b.
            is_whole = is_below(path, script_name) and not hasattr(request, "cut")
            whole = path if is_whole else script_name + path
            for prefix, host in self._by_length:
                if prefix and is_below(whole, prefix):
                    request.vars["SCRIPT_NAME"] = prefix
                    request.vars["PATH_INFO"] = whole[len(prefix) :]
                    return host
        for prefix, host in self._by_length:
            if not prefix:
                return host
            if is_below(path, prefix):
                request.vars["SCRIPT_NAME"] += prefix
                request.vars["PATH_INFO"] = path[len(prefix) :]
                return host
        return None

    # What gets a request that nobody has looked at; `hosts.static.mounts` looks for files first.
    select = select_application
