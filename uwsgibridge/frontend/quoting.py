r"""Quotes values for Nginx's configuration, and refuses values that no quoting keeps from being syntax.

Source of the rules: ngx_conf_read_token() in nginx's src/core/ngx_conf_file.c. Outside quotes, blanks
and ``; { } # " ' \`` mean something; inside double quotes only ``"`` and ``\`` do. A ``$`` starts a
variable in either, and nothing escapes it.
"""

from __future__ import annotations

import re
from typing import Final

_BARE: Final = re.compile(r"[A-Za-z0-9_./:@%+,=~*\[\]-]+")
_UNQUOTABLE: Final = re.compile(r"[\x00-\x1f\x7f$]")


class QuotingError(ValueError):
    """The value has a character that Nginx would not take as itself."""


def quote(value: str) -> str:
    """Write one value so that Nginx reads exactly it.

    Args:
        value: any text. The caller sees to it that the text makes sense in its place.

    Returns:
        The value, in double quotes where it needs them.

    Raises:
        QuotingError: the value has a control character or a ``$``, or is not valid Unicode.
    """
    if _BARE.fullmatch(value):
        return value
    found = _UNQUOTABLE.search(value)
    if found is not None:
        raise QuotingError(
            f"the character {found[0]!r} cannot be written in an Nginx configuration"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise QuotingError("it is not valid Unicode") from None
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
