"""Rules about what Nginx does itself beside the application: files, headers, error pages, other locations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from uwsgibridge.frontend.check.finding import REMOVE, Case, Found, Severity, for_server, for_way
from uwsgibridge.frontend.check.locations import find_location, find_named
from uwsgibridge.frontend.check.reading import Directive
from uwsgibridge.frontend.check.tree import Level, Way

_NOT_THERE: Final = frozenset({"500", "502", "503", "504"})
_SAFE_NAME: Final = re.compile(r"[^\s;{}\"'#]+")


def _first_pass(case: Case, server: Level) -> Directive:
    return case.tree.ways_of[server][0].uwsgi_pass


def _locations(server: Level) -> Iterator[Level]:
    return (level for level in server.within() if level.kind == "location")


@for_server(
    "alias-traversal",
    Severity.ERROR,
    "`location /static` with `alias /srv/static/`: `/static../secret` is a file beside the directory.",
)
def _traversal(_case: Case, server: Level) -> Iterator[Found]:
    for location in _locations(server):
        for alias in location.have("alias"):
            if (
                location.modifier in {"", "^~"}
                and not location.path.endswith("/")
                and alias.value.endswith("/")
            ):
                assert location.directive is not None
                before = f"{location.modifier} " if location.modifier else ""
                yield Found(
                    location.directive,
                    f"{location.path}../x is {alias.value}../x, a file beside the directory that anybody can read",
                    f"location {before}{location.path}/ {{",
                )


@for_server(
    "alias-slash",
    Severity.ERROR,
    "`location /static/` with `alias /srv/static`, which has no slash at its end: no file is found.",
)
def _slash(_case: Case, server: Level) -> Iterator[Found]:
    for location in _locations(server):
        for alias in location.have("alias"):
            if (
                location.modifier in {"", "^~"}
                and location.path.endswith("/")
                and not alias.value.endswith("/")
                and "$" not in alias.value
            ):
                yield Found(
                    alias,
                    f"{location.path}a.css becomes {alias.value}a.css: the slash is missing",
                    f"alias {alias.value}/;",
                )


@for_server(
    "root-twice",
    Severity.WARNING,
    "`location /static/` with `root /srv/static`: Nginx looks in /srv/static/static.",
)
def _root(_case: Case, server: Level) -> Iterator[Found]:
    for location in _locations(server):
        part = location.path.strip("/")
        for root in location.have("root"):
            if (
                location.modifier in {"", "^~"}
                and part
                and PurePosixPath(root.value).parts[-len(part.split("/")) :]
                == tuple(part.split("/"))
            ):
                slash = "/" if location.path.endswith("/") else ""
                yield Found(
                    root,
                    f"{location.path} is looked for in {root.value.rstrip('/')}/{part}: root adds the whole path",
                    f"alias {root.value.rstrip('/')}{slash};",
                )


@for_way(
    "try-files-ends",
    Severity.ERROR,
    "`try_files ... =404` in the location of a `uwsgi_pass`: whatever is no file is a 404, and never asked for.",
)
def _try_files(_case: Case, way: Way) -> Iterator[Found]:
    if way.location.kind != "location":
        return
    for directive in way.location.have("try_files"):
        if directive.args and directive.args[-1].startswith("="):
            kept = " ".join(arg for arg in directive.args[:-1] if not arg.endswith("/"))
            yield Found(
                directive,
                f"whatever is no file gets {directive.args[-1][1:]}, and the application is never asked",
                f"try_files {kept or '$uri'} @app;  # and uwsgi_pass in location @app {{ }}",
            )


@for_server(
    "named-location-missing",
    Severity.ERROR,
    "`try_files` or `error_page` names a location such as `@app` that the server does not have: 500.",
)
def _named(_case: Case, server: Level) -> Iterator[Found]:
    if server.have("include"):  # the location may stand in a file that was not found
        return
    for level in server.within():
        for directive in (*level.have("try_files"), *level.have("error_page")):
            name = directive.args[-1] if directive.args else ""
            if name.startswith("@") and "$" not in name and find_named(server, name) is None:
                yield Found(
                    directive,
                    f"this server has no location {name}, so that each such request gets 500",
                    f"location {name} {{ include uwsgi_params; uwsgi_pass unix:/run/app.sock; }}",
                )


@for_way(
    "way-unused",
    Severity.WARNING,
    "A named location with a `uwsgi_pass` that nothing in its server leads to.",
)
def _unused(_case: Case, way: Way) -> Iterator[Found]:
    name = way.location.path
    if way.location.kind != "location" or not name.startswith("@"):
        return
    for level in way.server.around():
        for inner in level.within() if level is way.server else (level,):
            if inner.have("include") or any(_may_lead_to(name, it) for it in inner.own):
                return
    assert way.location.directive is not None
    yield Found(
        way.location.directive,
        f"no try_files and no error_page of this server names {name}, so that nothing leads to this uwsgi_pass",
        f"try_files $uri {name};",
    )


def _may_lead_to(name: str, directive: Directive) -> bool:
    """Whether a directive names a named location, or may do so by what is not known here."""
    # Lua and njs may name it in a way of their own.
    if "_by_lua" in directive.name or directive.name.startswith("js_"):
        return True
    if any(arg == name or (arg.startswith("@") and "$" in arg) for arg in directive.args):
        return True
    # A map gives names to variables.
    return any(name in (inner.name, *inner.args) for inner in directive.block or ())


@for_server(
    "error-page-asks-application",
    Severity.WARNING,
    "The page for 502 or 504 is asked from the application that does not answer.",
)
def _error_page(case: Case, server: Level) -> Iterator[Found]:
    ways = {way.location for way in case.tree.ways_of[server]}
    seen: set[int] = set()
    for level in (*server.within(), *server.around()):
        for directive in level.have("error_page"):
            page = directive.args[-1] if directive.args else ""
            if id(directive) in seen or not page.startswith(("/", "@")) or "$" in page:
                continue
            seen.add(id(directive))
            codes = [code for code in directive.args[:-1] if code in _NOT_THERE - {"500", "503"}]
            location = (
                find_named(server, page) if page.startswith("@") else find_location(server, page)
            )
            if codes and location in ways:
                assert location is not None
                if location.have("try_files") or _is_another_application(case, server, location):
                    continue
                yield Found(
                    directive,
                    f"the page for {' and '.join(codes)} is asked from the application, which has just not answered",
                    f"location = {page} {{ root /usr/share/nginx/html; internal; }}"
                    if page.startswith("/")
                    else f"error_page {' '.join(codes)} /50x.html;",
                )


def _is_another_application(case: Case, server: Level, location: Level) -> bool:
    """Whether a location leads elsewhere than all others of its server do."""
    here = {way.uwsgi_pass.value for way in case.tree.ways_of[server] if way.location is location}
    others = {
        way.uwsgi_pass.value for way in case.tree.ways_of[server] if way.location is not location
    }
    return bool(others) and not here & others


@for_way(
    "add-header-lost",
    Severity.WARNING,
    "A level has an `add_header` of its own, and so inherits none of the outer levels: their headers are lost.",
)
def _add_header(_case: Case, way: Way) -> Iterator[Found]:
    levels = [level for level in way.level.around() if level.have("add_header")]
    if len(levels) < 2:
        return
    merge = way.level.one("add_header_inherit")
    if merge is not None and merge.value == "merge":
        return
    inner = {directive.value.lower() for directive in levels[0].have("add_header")}
    lost = {
        directive.value.lower(): directive
        for level in reversed(levels[1:])
        for directive in level.have("add_header")
        if directive.value.lower() not in inner
    }
    # What the outermost levels say is lost already where a level between them has its own.
    kept = {directive.value.lower() for directive in levels[1].have("add_header")}
    names = [directive for name, directive in lost.items() if name in kept]
    if names:
        shown = ", ".join(directive.value for directive in names)
        first = names[0]
        words = " ".join(
            arg if _SAFE_NAME.fullmatch(arg) else '"' + arg.replace('"', '\\"') + '"'
            for arg in first.args
        )
        yield Found(
            levels[0].have("add_header")[0],
            f"a level with an add_header of its own inherits none from outside: {shown} {'is' if len(names) == 1 else 'are'} lost here",
            f"add_header {words};",
        )


@for_server(
    "offload-location",
    Severity.ERROR,
    "`--offload URL=DIR` needs a location of that URL that is `internal` and leads to DIR.",
)
def _offload(case: Case, server: Level) -> Iterator[Found]:
    for url, directory in case.bridge.offload:
        block = f"location {url} {{ internal; alias {directory}; }}"
        location = find_location(server, f"{url}x")
        if (
            location is None
            or location.directive is None
            or _leads_to_application(case, server, location)
        ):
            if server.have("include"):  # the location may stand in a file that was not found
                continue
            yield Found(
                _first_pass(case, server),
                f"--offload {url}={directory} sends files by X-Accel-Redirect below {url}, and this server has no location for it",
                block,
            )
            continue
        if location.one("internal") is None:
            yield Found(
                location.directive,
                f"clients can ask for {url} themselves, and get what only the application may send (--offload {url}={directory})",
                "internal;",
            )
        found = _directory_of(location, url)
        if found is not None and found != directory:
            yield Found(
                location.directive,
                f"{url} leads to {found}, and --offload {url}={directory} to {directory}",
                f"alias {directory};",
            )


@for_way(
    "offload-ignored",
    Severity.ERROR,
    "`uwsgi_ignore_headers X-Accel-Redirect` while the bridge has `--offload`: clients get empty answers.",
)
def _offload_ignored(case: Case, way: Way) -> Iterator[Found]:
    if not case.bridge.offload:
        return
    for directive in way.level.all("uwsgi_ignore_headers"):
        if "x-accel-redirect" in map(str.lower, directive.args):
            rest = [arg for arg in directive.args if arg.lower() != "x-accel-redirect"]
            yield Found(
                directive,
                f"--offload {'='.join(case.bridge.offload[0])} answers with X-Accel-Redirect and no body, and Nginx ignores it",
                f"uwsgi_ignore_headers {' '.join(rest)};" if rest else REMOVE,
            )


def _leads_to_application(case: Case, server: Level, location: Level) -> bool:
    return any(way.location is location for way in case.tree.ways_of[server])


def _directory_of(location: Level, url: str) -> str | None:
    """Give the directory that the files below a URL are in, with a slash; None where that can't be told."""
    if location.modifier in {"~", "~*"}:
        return None
    for alias in location.have("alias"):
        if "$" in alias.value:
            return None
        rest = url.removeprefix(location.path)
        return f"{alias.value}{rest}".rstrip("/") + "/"
    root = location.one("root")
    return None if root is None or "$" in root.value else f"{root.value.rstrip('/')}{url}"


@for_server(
    "static-elsewhere",
    Severity.WARNING,
    "`--static URL=DIR` while a location of Nginx serves that URL from another directory.",
)
def _static(case: Case, server: Level) -> Iterator[Found]:
    for url, directory in case.bridge.static:
        location = find_location(server, f"{url}x")
        if (
            location is None
            or location.directive is None
            or _leads_to_application(case, server, location)
        ):
            continue
        is_file = location.have("alias") or location.have("root")
        found = _directory_of(location, url) if is_file else None
        # DIR may also be a package's, which only Python can find.
        if found is not None and found != directory and directory.startswith("/"):
            yield Found(
                location.directive,
                f"Nginx serves {url} from {found}, so that --static {url}={directory} is never asked for it",
                f"alias {directory};",
            )
