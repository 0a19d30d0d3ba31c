"""The statuses of Nginx's access log that tell of a failure. The error log has more to say of each."""

from __future__ import annotations

import re
from typing import Final

from uwsgibridge.explain.entry import Entry

_MINUTE: Final = 60.0
_ENDS: Final = (
    "worker ended",
    "killing worker: it does not answer",
    "killing worker: it has too much memory",
    "requests were broken off: they did not end in time",
)


def _row(
    status: int,
    happened: str,
    why: str,
    change: str,
    causes: tuple[str, ...] = (),
    looks_back_seconds: float = 0.0,
) -> Entry:
    return Entry(
        f"access-{status}",
        f"{status} in the access log",
        re.compile(str(status)),
        str(status),
        happened,
        why,
        change,
        (*causes, "access"),
        looks_back_seconds,
        "access",
    )


ACCESS_ROWS: Final = (
    _row(400, "The request was refused as malformed, by Nginx, the bridge or the application.",
         "A header is too large or wrong; or HTTP arrived at a uwsgi port (`proxy_pass` in the place of `uwsgi_pass`).",
         "The error log at the level `info` says what Nginx refused.", ("refused",)),
    _row(408, "The request did not arrive within `client_header_timeout` or `client_body_timeout`; Nginx logs no error for it.",
         "The client's network is slow or gone.",
         "Nothing on this side; `client_body_timeout` where slow uploads are wanted.", ("request body did not arrive in time",), _MINUTE),
    _row(413, "The request's body was over a limit: Nginx's `client_max_body_size`, or the bridge's `--max-body-bytes`.",
         "An upload.",
         "`client_max_body_size` in this location; `--max-body-bytes` where the bridge's log has `refused`.", ("refused",)),
    _row(499, "The client left before it had its answer.",
         "A person went on, or who asks has a shorter timeout than the application needs: look at the request's time.",
         "Make the answer quicker, or raise the timeout of the client or balancer.",
         ("request is slow, and still runs", "event loop is blocked: the application computes or waits without awaiting"), _MINUTE),
    _row(500, "The application failed, or Nginx itself.",
         "An exception in the application; or a request that is too big for uwsgi, a full disk, or a redirection cycle of Nginx.",
         "Look for `application failed` in the bridge's log; where there is none, the error log of Nginx says it.",
         ("application failed", "application broke a rule", "file can't be sent")),
    _row(502, "Nginx could not connect to the bridge, or got no valid answer.",
         "The bridge does not run, a worker died, or the head of an answer was too big.",
         "The error log of Nginx has a line for it: explain that file as well.",
         (*_ENDS, "head of the answer is larger than Nginx's buffer: it answers 502", "refused", "application failed",
          "stopping: running requests may end", "stopped", "next worker starts later")),
    _row(503, "The bridge was overloaded or at its end, or Nginx limits requests.",
         "More requests than threads for longer than `--max-queue-seconds`, a stop, or `limit_req`.",
         "More `--threads` or `--workers`; `limit_req ... burst=`.",
         ("overload: requests were answered 503", "requests were broken off: they did not end in time",
          "stopping: running requests may end")),
    _row(504, "There was no answer in time: from Nginx after `uwsgi_read_timeout`, or from the bridge after `--request-timeout-seconds`.",
         "The application is slow, or waits for something else.",
         "`uwsgibridge ctl stacks` shows where it is; raise `uwsgi_read_timeout` in this location.",
         ("request took too long", "request is slow, and still runs", "overload: requests were answered 503",
          "event loop is blocked: the application computes or waits without awaiting"), _MINUTE),
)  # fmt: skip
