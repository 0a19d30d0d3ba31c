"""Both linters around an application: what it, or the bridge, does against PEP 3333 is found out.

The reference validator stands next to the bridge and raises; werkzeug's lint, inside of it (it has no
`readlines`, on which the validator insists), warns on standard error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from wsgiref.validate import validator

from werkzeug.middleware.lint import LintMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

# What either of them says about an application or a server at fault. werkzeug's HTTPWarning is left
# out: it wants absolute URLs in Location, as RFC 2616 did and RFC 9110 does not.
COMPLAINTS: Final = ("WSGIWarning", "garbage collected without being closed")


def checked(app: WSGIApplication) -> WSGIApplication:
    """Put both around an application."""
    return validator(LintMiddleware(app))
