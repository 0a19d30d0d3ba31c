"""Decides which value a var has that comes more than once in a packet.

The last value wins, as with uWSGI: Nginx sends two ``uwsgi_param`` lines of one name in the order of its
configuration, and a line after ``include uwsgi_params;`` has to win. Only an administrator writes vars without
``HTTP_``, so that no value of a client can be the last one of these.

Headers that a client repeated are joined. RFC 9110, section 5.3, lets a client repeat a field whose value is a list,
and its lines mean the same as one line with commas. Nginx before 1.23 sends a var for each line. Later versions join
the lines themselves.

A packet does not say which vars are headers of the client. The order of the vars tells it:

- Nginx sends the ``uwsgi_param`` lines first, then the client's headers
  (``ngx_http_uwsgi_create_request``). It leaves out each header for which there is a ``uwsgi_param``,
  spelled with a hyphen or an underscore. So a name that stands before a var without ``HTTP_`` is the
  frontend's, each time that it comes.
- Other vars before ``HTTP_HOST`` count as the frontend's, too: a client sends that header first (RFC 9110,
  section 7.2), and nginx since 1.29.5 puts it before the client's other headers.
- lighttpd sends the client's headers first and its own ``HTTP_*`` vars (``setenv.add-environment``) last,
  and joins what a client repeated.
- Apache sends each name once.

All other repeated vars are joined. They can be two spellings of one name, ``X-User`` and ``X_User``, where Nginx
lets both in (``underscores_in_headers on``): when joined, neither replaces the other. They can also be two
``uwsgi_param`` lines of one ``HTTP_*`` name after a ``uwsgi_param HTTP_HOST``, with no other line after them: in the
packet, these look like a header that a client sent twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

_SINGLE_VALUED_FIELDS: Final = (
    # Fields of RFC 9110 whose ABNF is no list (#element).
    *("Authorization", "Content-Length", "Content-Location", "Content-Range", "Content-Type"),
    *("Date", "ETag", "From", "Host", "If-Modified-Since", "If-Range", "If-Unmodified-Since"),
    *("Last-Modified", "Location", "Max-Forwards", "Proxy-Authorization", "Range", "Referer"),
    *("Retry-After", "Server", "User-Agent"),
    # RFC 9111, sections 5.1 and 5.3.
    *("Age", "Expires"),
    # RFC 6266, 6454 and 7540; RFC 6455, sections 11.3.1 and 11.3.5.
    *("Content-Disposition", "Origin", "HTTP2-Settings"),
    *("Sec-WebSocket-Key", "Sec-WebSocket-Version"),
    # RFC 8470 and 9449; W3C: Trace Context, Fetch Metadata, Upgrade Insecure Requests, Mixed Content.
    *("DPoP", "Early-Data", "Traceparent", "Upgrade-Insecure-Requests"),
    *("Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-User", "Sec-GPC"),
    # WHATWG: Fetch ("CORS protocol"), HTML ("Server-sent events").
    *("Access-Control-Request-Method", "Last-Event-ID"),
    # No standard has this field; by its documents (ngx_http_realip_module) it is one address.
    "X-Real-IP",
)

SINGLE_VALUED: Final = frozenset(
    f"HTTP_{name.upper().replace('-', '_')}" for name in _SINGLE_VALUED_FIELDS
)
"""Vars of the header fields of which the last one stands, whoever repeated them."""


def settle_repeated(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Give each var one value.

    Args:
        pairs: names and values in the order of the packet.

    Returns:
        The vars in the order in which their names first come. Lines of a client's repeated field are joined
        by ``, ``, and cookies by ``; `` (RFC 9113, section 8.2.3). Of other vars, the last value wins.
    """
    names = [name for name, _ in pairs]
    repeated = (name for name, times in Counter(names).items() if times > 1)
    if all(name[:5] != "HTTP_" or name in SINGLE_VALUED for name in repeated):
        return dict(pairs)  # most sites that come here need no more
    end_of_params = end_of_own = 0
    for position, (name, value) in enumerate(pairs, 1):
        if not name.startswith("HTTP_"):
            end_of_params = end_of_own = position
            if name == "SERVER_SOFTWARE" and value.startswith("lighttpd/"):
                return dict(pairs)
        elif name == "HTTP_HOST":
            end_of_own = position
    last_stands = {*names[:end_of_params], *SINGLE_VALUED}
    variables = dict(pairs[:end_of_own])
    for name, value in pairs[end_of_own:]:
        if name in variables and name not in last_stands:
            separator = "; " if name == "HTTP_COOKIE" else ", "
            variables[name] = f"{variables[name]}{separator}{value}"
        else:
            variables[name] = value
    return variables
