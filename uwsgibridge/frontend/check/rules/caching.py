"""Rules about ``uwsgi_cache``: what it keeps that it should not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from uwsgibridge.frontend.check.finding import REMOVE, Case, Found, Severity, for_case, for_way
from uwsgibridge.frontend.check.reading import Directive
from uwsgibridge.frontend.check.terms import parse_time
from uwsgibridge.frontend.check.tree import VARIABLE, Way

_KEY: Final = "uwsgi_cache_key $scheme$request_method$host$request_uri;"
_HOSTS: Final = frozenset({"host", "http_host", "server_name", "server_addr"})
_PRIVATE: Final = frozenset({"set-cookie", "cache-control", "expires", "vary"})


def _cache(way: Way) -> Directive | None:
    directive = way.level.one("uwsgi_cache")
    return None if directive is None or directive.value == "off" else directive


def _key(way: Way) -> Directive | None:
    return way.level.one("uwsgi_cache_key")


@for_way(
    "cache-key-missing",
    Severity.ERROR,
    "`uwsgi_cache` without `uwsgi_cache_key`: all pages have the same key, and each URL gets the first page.",
)
def _missing(_case: Case, way: Way) -> Iterator[Found]:
    cache = _cache(way)
    if cache is not None and _key(way) is None and not way.level.may_hide("uwsgi_cache_key"):
        yield Found(
            cache,
            "there is no uwsgi_cache_key, so that each URL gets the first page that was kept",
            _KEY,
        )


@for_case(
    "cache-key-host",
    Severity.WARNING,
    "The cache's key has no host, while the server has several names, or several servers share the cache.",
)
def _host(case: Case) -> Iterator[Found]:
    names: dict[str, set[str]] = {}
    for way in case.tree.ways:
        if (cache := _cache(way)) is not None:
            names.setdefault(cache.value, set()).update(
                name for directive in way.server.have("server_name") for name in directive.args
            )
    for way in case.tree.ways:
        cache, key = _cache(way), _key(way)
        if cache is None or key is None or _HOSTS & _variables(key):
            continue
        its = names[cache.value]
        if len(its) > 1 or any(
            name.startswith(("~", "*", ".")) or name in {"_", ""} for name in its
        ):
            yield Found(
                key, "a page of one host is given to those who ask for it at another one", _KEY
            )


@for_way(
    "cache-key-url",
    Severity.ERROR,
    "The cache's key has not the whole URL, so that one page is given for another.",
)
def _url(_case: Case, way: Way) -> Iterator[Found]:
    cache, key = _cache(way), _key(way)
    if cache is None or key is None:
        return
    variables = _variables(key)
    if "request_uri" in variables or "request" in variables:
        return
    if not {"uri", "document_uri"} & variables:
        lost = "path"
    elif not {"args", "query_string"} & variables and not any(
        it.startswith("arg_") for it in variables
    ):
        lost = "query"
    else:
        return
    if lost == "path" and way.location.modifier == "=":
        return
    yield Found(
        key,
        f"the key has no {lost}, so that a page is given to those who ask for another one",
        _KEY,
    )


@for_way(
    "cache-head",
    Severity.WARNING,
    "X-Accel-Expires is ignored, which keeps empty answers to HEAD out, and the key has no method: GET gets an empty page.",
)
def _head(_case: Case, way: Way) -> Iterator[Found]:
    key = _key(way)
    if _cache(way) is None or key is None or {"request_method", "request"} & _variables(key):
        return
    for directive in way.level.all("uwsgi_ignore_headers"):
        if "x-accel-expires" in map(str.lower, directive.args):
            yield Found(
                directive,
                "uwsgi_cache asks by HEAD where a client does, and keeps the empty body for GET, unless the bridge's "
                "X-Accel-Expires: 0 is honoured or the key has the method",
                _KEY,
            )


@for_way(
    "cache-private",
    Severity.WARNING,
    "Set-Cookie, Cache-Control, Expires or Vary is ignored: pages of one user are kept for all.",
)
def _private(_case: Case, way: Way) -> Iterator[Found]:
    key = _key(way)
    if (
        _cache(way) is None
        or way.level.all("uwsgi_cache_bypass")
        or way.level.all("uwsgi_no_cache")
    ):
        return
    if key is not None and any(
        name.startswith("cookie_") or name == "http_cookie" for name in _variables(key)
    ):
        return
    for directive in way.level.all("uwsgi_ignore_headers"):
        ignored = [arg for arg in directive.args if arg.lower() in _PRIVATE]
        if ignored:
            rest = [arg for arg in directive.args if arg.lower() not in _PRIVATE]
            yield Found(
                directive,
                f"{' and '.join(ignored)} can say that a page is one user's own, and is ignored: it is kept for all",
                f"uwsgi_ignore_headers {' '.join(rest)};" if rest else REMOVE,
            )


@for_way(
    "cache-errors",
    Severity.WARNING,
    "`uwsgi_cache_valid any`: errors such as 500 and 503 are kept, and given to all who come after.",
)
def _errors(_case: Case, way: Way) -> Iterator[Found]:
    if _cache(way) is None:
        return
    # The first line that fits counts, so that one for 502 before `any` keeps it out.
    judged: set[str] = set()
    for directive in way.level.all("uwsgi_cache_valid"):
        codes = [code for code in directive.args[:-1] if code not in judged]
        kept = [
            code for code in codes if (code == "any" and "502" not in judged) or _is_failure(code)
        ]
        judged.update(directive.args[:-1])
        if kept and parse_time(directive.args[-1]):
            yield Found(
                directive,
                f"an error ({', '.join(kept)}) that has passed is given to everybody for {directive.args[-1]}",
                f"uwsgi_cache_valid 200 301 {directive.args[-1]};",
            )


def _is_failure(code: str) -> bool:
    return code.isdecimal() and int(code) >= 500


@for_way(
    "cache-post",
    Severity.WARNING,
    "`uwsgi_cache_methods POST` while the key has neither method nor body: a POST gets the answer of another one.",
)
def _post(_case: Case, way: Way) -> Iterator[Found]:
    key = _key(way)
    if _cache(way) is None or key is None or "request_body" in _variables(key):
        return
    for directive in way.level.all("uwsgi_cache_methods"):
        if "POST" in map(str.upper, directive.args):
            yield Found(
                directive,
                "the key has not the body, so that a POST is not carried out and gets the answer of another one",
                "uwsgi_cache_methods GET HEAD;",
            )


@for_way(
    "cache-unbuffered",
    Severity.WARNING,
    "`uwsgi_cache` with `uwsgi_buffering off`: nothing is kept.",
)
def _unbuffered(_case: Case, way: Way) -> Iterator[Found]:
    cache = _cache(way)
    if cache is not None and not way.level.is_on("uwsgi_buffering", default=True):
        yield Found(cache, "with uwsgi_buffering off Nginx keeps nothing", "uwsgi_buffering on;")


@for_way(
    "store",
    Severity.WARNING,
    "`uwsgi_store`: an answer is kept for ever as a file, without its headers, by its path alone.",
)
def _store(_case: Case, way: Way) -> Iterator[Found]:
    store = way.level.one("uwsgi_store")
    if store is not None and store.value != "off":
        yield Found(
            store,
            "a stored answer is given to everybody for ever, by its path alone and without its headers",
            "uwsgi_store off;",
        )


def _variables(directive: Directive) -> set[str]:
    return {found[0] or found[1] for arg in directive.args for found in VARIABLE.findall(arg)}
