"""Rules about Nginx's version, and about what could not be read."""

from __future__ import annotations

from collections.abc import Iterator

from uwsgibridge.frontend.check.finding import Case, Found, Severity, for_case
from uwsgibridge.frontend.check.reading import Directive


def _first(case: Case) -> Directive:
    return case.tree.ways[0].uwsgi_pass


@for_case(
    "version-over-read",
    Severity.ERROR,
    "Nginx before 1.30.1: an answer over uwsgi is read beyond its end (CVE-2026-42946), "
    "and a status line in two pieces is mishandled. Debian has patches of its own.",
)
def _over_read(case: Case) -> Iterator[Found]:
    if case.tree.ways and case.is_before(1, 30, 1):
        yield Found(
            _first(case),
            "this version of Nginx reads answers over uwsgi beyond their end (CVE-2026-42946), unless it is patched as Debian's is",
            "nginx 1.30.4, 1.31.3 or later",
        )


@for_case(
    "version-map",
    Severity.WARNING,
    "Nginx before 1.30.4, or 1.31 before 1.31.3, with a `map`: CVE-2026-42533.",
)
def _map(case: Case) -> Iterator[Found]:
    if not case.tree.ways or case.version is None:
        return
    if case.version >= (1, 31, 3) or (1, 30, 4) <= case.version < (1, 31, 0):
        return
    for level in case.tree.levels:
        for directive in level.have("map"):
            yield Found(
                directive,
                "this version of Nginx has a fault of map (CVE-2026-42533), unless it is patched as Debian's is",
                "nginx 1.30.4, 1.31.3 or later",
            )
            return


@for_case(
    "version-directive",
    Severity.ERROR,
    "A directive that this version of Nginx does not know: it does not start.",
)
def _directive(case: Case) -> Iterator[Found]:
    since = {
        "http2": ((1, 25, 1), "listen 443 ssl http2;"),
        "http3": ((1, 25, 0), "listen 443 ssl;"),
        "add_header_inherit": ((1, 29, 3), "# repeat the add_header lines of the outer level"),
        "sticky": ((1, 29, 6), "ip_hash;"),
        "least_time": ((1, 31, 0), "least_conn;"),
    }
    for level in case.tree.levels:
        upstreams = level.have("upstream") if level.kind == "http" else []
        for directive in (*level.own, *(line for it in upstreams for line in it.block or ())):
            version, instead = since.get(directive.name, ((0, 0, 0), ""))
            if instead and case.is_before(*version):
                shown = ".".join(map(str, version))
                yield Found(
                    directive,
                    f"Nginx knows {directive.name} from {shown} on, and does not start before",
                    instead,
                )


@for_case(
    "include-missing",
    Severity.WARNING,
    "A file that is included was not found or can't be read; what is in it was not judged.",
)
def _include(case: Case) -> Iterator[Found]:
    for missing in case.missing:
        yield Found(
            missing.include,
            f"{missing.include.value} was not judged: {missing.reason}",
            "nginx -T | uwsgibridge nginx --check -",
        )


@for_case(
    "no-way",
    Severity.NOTICE,
    "The file has no `uwsgi_pass` that leads to an application, so that nothing was judged.",
)
def _no_way(case: Case) -> Iterator[Found]:
    if not case.tree.ways:
        first = next(
            (it for level in case.tree.levels for it in (level.directive, *level.own) if it),
            None,
        )
        if first is not None:
            yield Found(
                first, "there is no uwsgi_pass in a location here", "uwsgi_pass unix:/run/app.sock;"
            )
