"""Test an application behind a real Nginx: as processes of this machine, or as Docker containers.

>>> with LocalStack("mysite:application") as stack:
...     assert requests.get(stack.url).status_code == 200

With pytest, the fixtures `local_stack` and `compose_stack` start a stack once for a whole run; see
`uwsgibridge.testing.plugin`.
"""

from uwsgibridge.frontend.options import Site
from uwsgibridge.testing.bridge_process import BridgeProcess
from uwsgibridge.testing.errors import StackError
from uwsgibridge.testing.local_stack import LocalStack
from uwsgibridge.testing.log_stream import LogEvent, LogStream, event_with

__all__ = [
    "BridgeProcess",
    "LocalStack",
    "LogEvent",
    "LogStream",
    "Site",
    "StackError",
    "event_with",
]
