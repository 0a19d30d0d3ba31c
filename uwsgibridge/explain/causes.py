"""Events of the bridge's log, as causes of what Nginx says; docs/logs.md has all events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uwsgibridge.explain.entry import Cause

LISTENING: Final = "listening"
"""The event that ends each cause which lasts."""

_FAILURE: Final = ("outcome", "detail", "where")

CAUSES: Final[Mapping[str, Cause]] = {
    "application failed": Cause(
        "The application raised an exception.", "Mend the application: the event has its traceback.", _FAILURE
    ),
    "application broke a rule": Cause(
        "The application broke a rule of WSGI or ASGI.", "Mend the application: `detail` says which rule.", _FAILURE
    ),
    "application failed after its deadline": Cause(
        "The request had been ended by --request-timeout-seconds before.",
        "Make the work shorter, or raise --request-timeout-seconds, and uwsgi_read_timeout above it.",
        _FAILURE,
    ),
    "head of the answer is larger than Nginx's buffer: it answers 502": Cause(
        "The head of the answer did not fit into uwsgi_buffer_size.",
        "Send less in the header that `largest_header` names, or raise uwsgi_buffer_size, and then --frontend-buffer-bytes.",
        ("head_bytes", "largest_header", "largest_header_bytes"),
    ),
    "refused": Cause(
        "The bridge did not pass the request to the application.",
        "Raise the limit that `option` names, if the request was in order.",
        ("reason", "status", "detail"),
    ),
    "overload: requests were answered 503": Cause(
        "More requests came than the application can serve.",
        "More --threads or --workers; or the limit that `option` names.",
        ("reason", "requests"),
    ),
    "request is slow, and still runs": Cause(
        "The application was still at work; `stack` says where.",
        "Make that place quicker, or raise uwsgi_read_timeout in this location.",
        ("seconds", "phase", "stack"),
    ),
    "request took too long": Cause(
        "The request was ended by --request-timeout-seconds; `stack` says where it was.",
        "Make the work shorter, or raise --request-timeout-seconds, and uwsgi_read_timeout above it.",
        ("stack",),
    ),
    "request body did not arrive in time": Cause(
        "The upload stood still for --body-timeout-seconds.",
        "Leave uwsgi_request_buffering on, so that Nginx waits for slow clients; or raise --body-timeout-seconds. Where "
        "the answer had begun, have the application read the body first: Nginx sends no more of it then.",
        ("outcome", "hint"),
    ),
    "answer was not taken in time": Cause(
        "The reader of the answer stood still for --write-timeout-seconds.",
        "Leave uwsgi_buffering on, so that Nginx waits for slow clients; or raise --write-timeout-seconds.",
        ("outcome",),
    ),
    "event loop is blocked: the application computes or waits without awaiting": Cause(
        "The application held up the worker's event loop, and with it all requests; `stack` says where.",
        "Await there, or do the work in a thread.",
        ("stack",),
    ),
    "file can't be sent": Cause(
        "A file of --static could not be read.", "Look at the disk, or at the limit on open files.", ("detail",)
    ),
    "worker ended": Cause(
        "A worker died while it held requests.",
        "Find out what kills it: `signal` SIGKILL is mostly the kernel for want of memory (dmesg), SIGSEGV an extension "
        "module. `held` has the requests.",
        ("signal", "exit_status", "held"),
    ),
    "killing worker: it does not answer": Cause(
        "A worker hung, and was killed; `stack` says where.", "Mend what hangs, or raise --heartbeat-timeout-seconds.", ("stack",)
    ),
    "killing worker: it has too much memory": Cause(
        "A worker was above --max-rss-hard-bytes, and was killed.",
        "Look for what holds the memory; --max-rss-bytes replaces a worker before, without a lost request.",
        ("rss_bytes",),
    ),
    "killing worker: it does not end": Cause(
        "A worker did not end within --graceful-timeout-seconds, and was killed.",
        "Raise --graceful-timeout-seconds, or have the application end its long requests.",
        ("stack",),
    ),
    "requests were broken off: they did not end in time": Cause(
        "The bridge stopped or was reloaded, and the request took longer than --graceful-timeout-seconds.",
        "Raise --graceful-timeout-seconds, or have the application end its long requests.",
        ("requests",),
    ),
    "next worker starts later": Cause(
        "Workers end right after their start, so that for a time none was there.",
        "Look at the events before it, which say why they end.",
        ("reason", "in_seconds"),
    ),
    "can't accept connections: waiting for some to end": Cause(
        "A worker had no file descriptors, or no memory, for more connections.",
        "Raise the limit on open files: LimitNOFILE= of systemd, ulimits: of Compose.",
        ("reason",),
    ),
    "stopping: running requests may end": Cause(
        "The bridge was being stopped, or had been.", "Start it again; a reload (SIGHUP) refuses no connection.", ("reason",), lasts=True
    ),
    "stopped": Cause(
        "The bridge had been stopped.", "Start it again; a reload (SIGHUP) refuses no connection.", (), lasts=True
    ),
    "nobody can connect any more: the socket file is lost": Cause(
        "Somebody had removed or replaced the socket's file, while the bridge went on.",
        "Do what `hint` says: a reload makes the file anew. Have nothing clean up in that directory.",
        ("file", "hint"),
        lasts=True,
    ),
    "access": Cause(
        "The bridge's access log has the request.",
        "`application_seconds` is the application's own time, and `queue_seconds` the wait for a thread.",
        ("status", "complete", "queue_seconds", "application_seconds", "total_seconds"),
    ),
}  # fmt: skip
