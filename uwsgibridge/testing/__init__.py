"""Test an application behind a real Nginx: as processes of this machine, or as Docker containers.

>>> with LocalStack("mysite:application") as stack:
...     assert requests.get(stack.url).status_code == 200

With pytest, the fixtures `local_stack` and `compose_stack` start a stack once for a whole run; see
`uwsgibridge.testing.plugin`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from uwsgibridge.frontend.options import Site
    from uwsgibridge.testing.bridge_process import BridgeProcess
    from uwsgibridge.testing.compose_stack import ComposeStack
    from uwsgibridge.testing.errors import StackError
    from uwsgibridge.testing.local_stack import LocalStack
    from uwsgibridge.testing.log_stream import LogEvent, LogStream, event_with

__all__ = [
    "BridgeProcess",
    "ComposeStack",
    "LocalStack",
    "LogEvent",
    "LogStream",
    "Site",
    "StackError",
    "event_with",
]

_HOMES: Final = {
    "BridgeProcess": "uwsgibridge.testing.bridge_process",
    "ComposeStack": "uwsgibridge.testing.compose_stack",
    "LocalStack": "uwsgibridge.testing.local_stack",
    "LogEvent": "uwsgibridge.testing.log_stream",
    "LogStream": "uwsgibridge.testing.log_stream",
    "Site": "uwsgibridge.frontend.options",
    "StackError": "uwsgibridge.testing.errors",
    "event_with": "uwsgibridge.testing.log_stream",
}


def __getattr__(name: str) -> object:
    # Imported on demand: every pytest loads the plugin, and docker need not be installed.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
