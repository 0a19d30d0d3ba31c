"""Parses formats of the access log's lines, which have the variables of uWSGI's ``log-format`` or of gunicorn's ``access_log_format``."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Final, NamedTuple, TypeAlias

from uwsgibridge.errors import SettingsError

# Forms that have a name, and no variables.
FORMS: Final = ("auto", "combined", "json", "short")

# Variables of uWSGI, by the names in core/logging.c (`uwsgi_register_logchunks`) of uWSGI 2.0.31.
UWSGI_VARIABLES: Final = frozenset(
    [
        "uri",
        "method",
        "user",
        "addr",
        "host",
        "proto",
        "uagent",
        "referer",
        "status",
        "rsize",
        "hsize",
        "size",
        "cl",
        "headers",
        "micros",
        "msecs",
        "secs",
        "tmsecs",
        "tmicros",
        "time",
        "ltime",
        "ftime",
        "ctime",
        "epoch",
        "pid",
        "wid",
        "core",
        "switches",
        "vars",
        "pktsize",
        "modifier1",
        "modifier2",
        "rss",
        "rssM",
        "vsz",
        "vszM",
        "werr",
        "rerr",
        "ioerr",
    ]
)

# Variables of gunicorn, as its documentation of `access_log_format` has them.
GUNICORN_VARIABLES: Final = frozenset("hlutrmUqHsbBfaTDMLp")

# What the letter behind a name in braces says: a header of the request or of the answer, or a var.
GUNICORN_KINDS: Final = {"i": "header of the request", "o": "header of the answer", "e": "var"}

# A variable of uWSGI with a name of its own: any var; and what an application has set by `uwsgi.set_logvar`, which has no
# such beginning with uWSGI.
_VAR: Final = "var."
LOG_VARIABLE: Final = "logvar."

# In one line, so much may stand between the variables: the rest is for these.
_MAX_LITERAL_BYTES: Final = 1000
_MAX_VARIABLES: Final = 64

_VARIABLE: Final = r"%\(([^()]*)\)([sd]?)"
_NAMED: Final = r"\{([^{}]+)\}([ioe])"


class Variable(NamedTuple):
    """A variable of a format.

    Attributes:
        name: of uWSGI's or gunicorn's variable; ``var`` for any var of uWSGI's; ``logvar`` for one of the application's; ``i``,
            ``o`` or ``e`` with a `key`.
        key: the name of a header, in lower case, of a var, or of the application's variable.
    """

    name: str
    key: str = ""


Piece: TypeAlias = str | Variable


def parse_format(option: str, text: str) -> tuple[Piece, ...]:
    """Split a format into texts and variables.

    Args:
        option: for the message of an error.
        text: the format.

    Returns:
        The pieces in their order. There are none where the text is the name of a form.

    Raises:
        SettingsError: the text has an unknown variable, or is no format.
    """
    if text in FORMS:
        return ()
    literals, variables, is_gunicorns = _split(option, text)
    if not variables:
        hint = _closest(text, FORMS)
        raise SettingsError(
            f"{option} {text!r} is none of {', '.join(FORMS)}, and has no variable such as %(status)"
            + (f": did you mean {hint}?" if hint else "")
        )
    if is_gunicorns:
        literals = [literal.replace("%%", "%") for literal in literals]
    if any("%(" in literal for literal in literals):
        raise SettingsError(f"{option} {text!r} has a %( without its )")
    if not all(literal.isprintable() for literal in literals):
        raise SettingsError(f"{option} {text!r} has a control character, such as a line end")
    if len("".join(literals).encode()) > _MAX_LITERAL_BYTES or len(variables) > _MAX_VARIABLES:
        raise SettingsError(
            f"{option} is too long: it may have {_MAX_VARIABLES} variables, and {_MAX_LITERAL_BYTES} "
            "bytes beside them"
        )
    pieces: list[Piece] = [literals[0]]
    for variable, literal in zip(variables, literals[1:], strict=True):
        pieces += [variable, literal]
    return tuple(piece for piece in pieces if piece)


def _split(option: str, text: str) -> tuple[list[str], list[Variable], bool]:
    """Give the texts around the variables, the variables, and whether some are gunicorn's."""
    literals: list[str] = []
    variables: list[Variable] = []
    is_gunicorns = False
    end = 0
    for found in re.finditer(_VARIABLE, text):
        variable = _variable(option, found[1])
        literals.append(text[end : found.start()])
        variables.append(variable)
        end = found.end()
        if variable.name in UWSGI_VARIABLES or variable.name in {"var", "logvar"}:
            end -= len(found[2])  # a letter behind it is no part of it
        else:
            is_gunicorns = True
            if not found[2]:
                raise SettingsError(
                    f"{option}: the variable %({found[1]}) is gunicorn's, which has an s behind it: write %({found[1]})s"
                )
    literals.append(text[end:])
    return literals, variables, is_gunicorns


def _variable(option: str, name: str) -> Variable:
    if name in UWSGI_VARIABLES or name in GUNICORN_VARIABLES:
        return Variable(name)
    if name.startswith(_VAR) and len(name) > len(_VAR):
        return Variable("var", name.removeprefix(_VAR))
    if name.startswith(LOG_VARIABLE) and len(name) > len(LOG_VARIABLE):
        return Variable("logvar", name.removeprefix(LOG_VARIABLE))
    if (named := re.fullmatch(_NAMED, name)) is not None:
        # gunicorn takes no notice of the case of these names.
        key = named[1].upper() if named[2] == "e" else named[1].lower()
        return Variable(named[2], key)
    hint = _closest(name, UWSGI_VARIABLES | GUNICORN_VARIABLES)
    raise SettingsError(
        f"{option}: there is no variable %({name})"
        + (f": did you mean %({hint})?" if hint else "; docs/logs.md lists them")
    )


def _closest(name: str, names: frozenset[str] | tuple[str, ...]) -> str:
    found = get_close_matches(name, sorted(names), n=1)
    return found[0] if found else ""
