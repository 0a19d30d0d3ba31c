"""Rules about ``uwsgi_param``: what the application is told of a request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from uwsgibridge.frontend.check.finding import REMOVE, Case, Found, Severity, for_way
from uwsgibridge.frontend.check.reading import Directive
from uwsgibridge.frontend.check.tree import VARIABLE, Way

# The vars that each application needs, with the values that are right, the first of them the one to write.
_NEEDED: Final = {
    "REQUEST_METHOD": ("$request_method",),
    "QUERY_STRING": ("$query_string", "$args"),
    "CONTENT_TYPE": ("$content_type", "$http_content_type"),
    "CONTENT_LENGTH": ("$content_length", "$http_content_length"),
    "PATH_INFO": ("$document_uri", "$uri"),
}
_USEFUL: Final = {
    "REQUEST_URI": "$request_uri",
    "SERVER_PROTOCOL": "$server_protocol",
    "REMOTE_ADDR": "$remote_addr",
    "SERVER_NAME": "$server_name",
    "SERVER_PORT": "$server_port",
}
SCHEMES: Final = ("REQUEST_SCHEME", "HTTPS", "UWSGI_SCHEME")
# Raw, or with more than the path in it.
_NO_PATH: Final = re.compile(
    r"\$(?:\{request_uri\}|request_uri\b|\{?is_args\b|\{?args\b|\{?query_string\b)"
)

# uWSGI does something for these vars. The bridge only passes them on (docs/vars.md).
_COMMANDS: Final = frozenset(
    {
        "UWSGI_FILE", "UWSGI_SCRIPT", "UWSGI_MODULE", "UWSGI_CALLABLE", "UWSGI_HOME", "UWSGI_PYHOME", "UWSGI_CHDIR",
        "UWSGI_SETENV", "UWSGI_TOUCH_RELOAD", "UWSGI_POSTFILE", "UWSGI_CACHE_GET", "UWSGI_APPID",
    }
)  # fmt: skip
_MODIFIERS: Final = frozenset({"0", "30"})


def params_of(way: Way) -> dict[str, Directive]:
    """Give the params in force, by name; of several of one name the last stands."""
    return {param.value: param for param in way.level.all("uwsgi_param") if len(param.args) > 1}


@for_way(
    "params-none",
    Severity.ERROR,
    "No `uwsgi_param` is in force at a `uwsgi_pass`: the application learns no path and no method.",
)
def _none(_case: Case, way: Way) -> Iterator[Found]:
    if not way.level.all("uwsgi_param") and not way.level.may_hide("uwsgi_param"):
        yield Found(
            way.uwsgi_pass,
            "no uwsgi_param is in force here, so that the application learns neither method nor path",
            "include uwsgi_params;",
        )


@for_way(
    "params-lost",
    Severity.ERROR,
    "A level has a `uwsgi_param` of its own, and so inherits none of the outer levels, and a var is missing for it.",
)
def _lost(_case: Case, way: Way) -> Iterator[Found]:
    in_force = params_of(way)
    outer = _lost_params(way)
    lost = [name for name in outer if name not in in_force]
    is_known = any(name in _NEEDED or name in _USEFUL for name in lost)
    if is_known and not way.level.may_hide("uwsgi_param"):
        first = way.level.all("uwsgi_param")[0]
        shown = ", ".join(lost[:4]) + (" and others" if len(lost) > 4 else "")
        yield Found(
            first,
            f"a level with a uwsgi_param of its own inherits none from outside: {shown} are lost here",
            "include uwsgi_params;",
        )


def _lost_params(way: Way) -> list[str]:
    """Give the names of params that stand on a level outside of the one in force."""
    levels = [level for level in way.level.around() if level.have("uwsgi_param")]
    return [param.value for level in levels[1:] for param in level.have("uwsgi_param")]


@for_way(
    "param-missing",
    Severity.ERROR,
    "REQUEST_METHOD, PATH_INFO, QUERY_STRING, CONTENT_TYPE or CONTENT_LENGTH is not sent.",
)
def _missing(_case: Case, way: Way) -> Iterator[Found]:
    yield from _not_told(way, {name: values[0] for name, values in _NEEDED.items()})


@for_way(
    "param-absent",
    Severity.WARNING,
    "REQUEST_URI, SERVER_PROTOCOL, REMOTE_ADDR, SERVER_NAME, SERVER_PORT or the scheme is not sent.",
)
def _absent(_case: Case, way: Way) -> Iterator[Found]:
    useful = dict(_USEFUL)
    if not any(name in params_of(way) for name in SCHEMES):
        useful["REQUEST_SCHEME"] = "$scheme"
    yield from _not_told(way, useful)


def _not_told(way: Way, wanted: dict[str, str]) -> Iterator[Found]:
    in_force = params_of(way)
    elsewhere = set(_lost_params(way))
    missing = [name for name in wanted if name not in in_force and name not in elsewhere]
    if in_force and missing and not way.level.may_hide("uwsgi_param"):
        line = f"uwsgi_param {missing[0]} {wanted[missing[0]]};"
        yield Found(
            way.uwsgi_pass,
            f"the application is not told {', '.join(missing)}",
            line if len(missing) == 1 else "include uwsgi_params;",
        )


@for_way(
    "param-wrong",
    Severity.ERROR,
    "A var has a value that can't be right, such as PATH_INFO with `$request_uri`, which has the query in it.",
)
def _wrong(_case: Case, way: Way) -> Iterator[Found]:
    for name, param in params_of(way).items():
        value = param.args[1]
        if name == "PATH_INFO" and _NO_PATH.search(value):
            why = "is the path alone, decoded"
        elif name in {"REQUEST_METHOD", "QUERY_STRING", "CONTENT_TYPE"} and _is_another(
            name, value
        ):
            why = "takes the place of what the client has sent"
        elif name == "CONTENT_LENGTH" and value and _is_another(name, value):
            why = "has to be the length of the body"
        elif name == "REQUEST_URI" and value in {"$uri", "$document_uri", "$uri$is_args$args"}:
            why = "is what the client has sent, encoded and with the query"
        elif name == "HTTP_HOST" and "$server_name" in value.replace("{", ""):
            why = "is the host that the client asks for, which may be another name of this server"
        elif name == "SERVER_PROTOCOL" and value in {"$scheme", "$https"}:
            why = "is a version such as HTTP/1.1"
        else:
            continue
        right = _NEEDED.get(name, (_USEFUL.get(name, "$http_host"),))[0]
        yield Found(param, f"{name} {why}, and not {value}", f"uwsgi_param {name} {right};")


def _is_another(name: str, value: str) -> bool:
    """Whether a value is another one of those that a different var should have, or a fixed one."""
    value = value.replace("{", "").replace("}", "")
    rights = {right for values in _NEEDED.values() for right in values} | set(_USEFUL.values())
    return value in rights - set(_NEEDED[name]) or (name == "CONTENT_LENGTH" and value.isdecimal())


@for_way(
    "host-without-port",
    Severity.NOTICE,
    "HTTP_HOST is `$host`, which has no port, as in Debian's `uwsgi_params`: links of the application lose it.",
)
def _host(case: Case, way: Way) -> Iterator[Found]:
    param = params_of(way).get("HTTP_HOST")
    if param is not None and param.args[1].replace("{", "").replace("}", "") == "$host":
        value = "$http_host"
        if case.version is not None and case.version >= (1, 30, 0):
            value = "$host$is_request_port$request_port"
        yield Found(
            param,
            "$host has no port, so that the application makes links without one; a line behind the include counts",
            f"uwsgi_param HTTP_HOST {value};",
        )


@for_way(
    "header-as-param",
    Severity.WARNING,
    "A param has the name of a header, such as `Host` or `X-Real-IP`: it becomes a var that no framework looks at.",
)
def _header(_case: Case, way: Way) -> Iterator[Found]:
    for param in way.level.all("uwsgi_param"):
        name = param.value
        if len(param.args) > 1 and re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*", name):
            if "-" not in name and (name.isupper() or name.islower()) and name != "host":
                continue
            yield Found(
                param,
                f"{name} becomes a var of that name and no header; a framework looks for {_var_of(name)}",
                _header_line(name, param.args[1:2]),
            )


def _var_of(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"


def _header_line(header: str, values: tuple[str, ...]) -> str:
    """Write the param for a header that was to be set in another way."""
    match header.lower():
        case "host":
            return "uwsgi_param HTTP_HOST $http_host;"
        case "upgrade" | "connection":
            # Nginx sends both as they came, and tunnels a 101 by itself.
            return REMOVE
        case _:
            return " ".join(["uwsgi_param", _var_of(header), *map(_quoted, values)]) + ";"


@for_way(
    "param-overridden",
    Severity.WARNING,
    "A param stands before an include that sets it again: the last of a name counts.",
)
def _overridden(_case: Case, way: Way) -> Iterator[Found]:
    before: dict[str, Directive] = {}
    for param in way.level.all("uwsgi_param"):
        if len(param.args) < 2:
            continue
        earlier = before.get(param.value)
        if earlier is not None and earlier.args[1:] != param.args[1:]:
            is_own = earlier.file == way.uwsgi_pass.file
            if is_own and (param.file != earlier.file or param.line < earlier.line):
                yield Found(
                    earlier,
                    f"a later line ({param.file}:{param.line}) sets {param.value} again, and the last one counts: "
                    "write it behind the include",
                    f"uwsgi_param {param.value} {_quoted(earlier.args[1])};",
                )
        before[param.value] = param


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[^\s;{}\"'#]+", value) else f'"{value}"'


@for_way(
    "script-name-twice",
    Severity.WARNING,
    "SCRIPT_NAME is set, and PATH_INFO has the prefix too: the application sees it twice.",
)
def _script_name(case: Case, way: Way) -> Iterator[Found]:
    in_force = params_of(way)
    script, path = in_force.get("SCRIPT_NAME"), in_force.get("PATH_INFO")
    if script is None or path is None:
        return
    value = script.args[1].rstrip("/")
    modifier = way.level.one("uwsgi_modifier1")
    if not value or value.startswith("$") or (modifier is not None and modifier.value == "30"):
        return
    if path.args[1] not in _NEEDED["PATH_INFO"] or way.location.have("rewrite"):
        return
    location = way.location.path
    if way.location.kind == "location" and not location.lstrip("^").startswith((value, "@")):
        return
    if any(mount.partition("=")[0].rstrip("/") == value for mount in case.bridge.settings.mount):
        return  # --mount has it once
    yield Found(
        script,
        f"PATH_INFO begins with {value} as well, so that the application finds none of its paths; modifier 30 "
        "cuts it off",
        "uwsgi_modifier1 30;",
    )


@for_way(
    "modifier-unknown",
    Severity.ERROR,
    "`uwsgi_modifier1` is another one than 0 and 30: the bridge refuses what is no request for a Python application.",
)
def _modifier(_case: Case, way: Way) -> Iterator[Found]:
    modifier = way.level.one("uwsgi_modifier1")
    if modifier is not None and modifier.value not in _MODIFIERS:
        yield Found(
            modifier,
            f"modifier {modifier.value} is no request for a Python application, and is refused",
            "uwsgi_modifier1 0;",
        )


@for_way(
    "command-var",
    Severity.WARNING,
    "A var by which uWSGI loads or runs something, such as UWSGI_CHDIR: the bridge does nothing for it.",
)
def _command(_case: Case, way: Way) -> Iterator[Found]:
    for name, param in params_of(way).items():
        if name in _COMMANDS:
            yield Found(
                param,
                f"no var loads or runs anything: what {name} is for, is said by an option of uwsgibridge serve",
                REMOVE,
            )


@for_way(
    "other-protocol",
    Severity.WARNING,
    "`proxy_...`, `fastcgi_...` or `scgi_...` stands in a location with `uwsgi_pass`, and does nothing for it.",
)
def _other_protocol(_case: Case, way: Way) -> Iterator[Found]:
    for directive in way.location.own:
        prefix, _, rest = directive.name.partition("_")
        if prefix not in {"proxy", "fastcgi", "scgi"} or way.location.have(f"{prefix}_pass"):
            continue
        if directive.name in {"proxy_set_header", "fastcgi_param", "scgi_param"}:
            if prefix == "proxy":
                write = _header_line(directive.value, directive.args[1:])
            else:
                write = " ".join(["uwsgi_param", *map(_quoted, directive.args)]) + ";"
        elif rest == "cache" and directive.value != "off":
            write = _cache_line(way, directive, prefix)
        elif rest in _SHARED:
            write = " ".join([f"uwsgi_{rest}", *map(_quoted, directive.args)]) + ";"
        else:
            write = REMOVE
        yield Found(
            directive,
            f"{directive.name} does nothing for uwsgi_pass",
            write,
        )


def _cache_line(way: Way, directive: Directive, prefix: str) -> str:
    """Write ``uwsgi_cache``, which takes no zone of another protocol's: nginx would not start."""
    zone = directive.value
    write = f"uwsgi_cache {zone};"
    if _declared(way, "uwsgi_cache_path", zone) or VARIABLE.search(zone):
        return write
    found = _declared(way, f"{prefix}_cache_path", zone)
    if found is None:
        return f"{write}  # with uwsgi_cache_path ... keys_zone={zone}:10m; in http"
    words = [_quoted(it) for it in found.args]
    if not _is_used_elsewhere(way, prefix, zone):
        return f"{write}  # with uwsgi_cache_path {' '.join(words)}; in the place of {prefix}_cache_path"
    own = f"{zone}_uwsgi"
    words = [it.replace(f"{_ZONE}{zone}", f"{_ZONE}{own}") for it in words]
    words[0] = _quoted(f"{found.value.rstrip('/')}_uwsgi")
    return (
        f"uwsgi_cache {own};  # with uwsgi_cache_path {' '.join(words)}; beside {prefix}_cache_path"
    )


def _declared(way: Way, name: str, zone: str) -> Directive | None:
    """Find the line that declares a zone of a cache."""
    return next(
        (
            it
            for level in way.level.around()
            for it in level.have(name)
            if any(word.partition(":")[0] == f"{_ZONE}{zone}" for word in it.args)
        ),
        None,
    )


def _is_used_elsewhere(way: Way, prefix: str, zone: str) -> bool:
    """Whether a location that asks by the other protocol keeps its pages in the zone."""
    *_, top = way.level.around()
    for level in top.within():
        cache = level.one(f"{prefix}_cache")
        if cache is not None and cache.value == zone and level.have(f"{prefix}_pass"):
            return True
    return False


_ZONE: Final = "keys_zone="
# What proxy_ and uwsgi_ have alike.
_SHARED: Final = frozenset(
    {
        "buffer_size", "buffering", "buffers", "busy_buffers_size", "cache", "cache_background_update",
        "cache_bypass", "cache_key", "cache_lock", "cache_lock_age", "cache_lock_timeout", "cache_max_range_offset",
        "cache_methods", "cache_min_uses", "cache_revalidate", "cache_use_stale", "cache_valid",
        "connect_timeout", "hide_header", "ignore_client_abort", "ignore_headers", "intercept_errors", "max_temp_file_size",
        "next_upstream", "next_upstream_timeout", "next_upstream_tries", "no_cache", "pass_header", "pass_request_body",
        "pass_request_headers", "read_timeout", "request_buffering", "send_timeout", "store", "temp_file_write_size",
    }
)  # fmt: skip


@for_way(
    "headers-not-passed",
    Severity.ERROR,
    "`uwsgi_pass_request_headers off`: the application gets no header of the client, no cookie and no host.",
)
def _headers_off(_case: Case, way: Way) -> Iterator[Found]:
    if not way.level.is_on("uwsgi_pass_request_headers", default=True):
        directive = way.level.one("uwsgi_pass_request_headers")
        assert directive is not None
        yield Found(
            directive,
            "the application gets none of the client's headers, no cookie and no host",
            "uwsgi_pass_request_headers on;",
        )
