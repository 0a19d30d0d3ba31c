"""One setting while a configuration is read."""

from __future__ import annotations

from dataclasses import dataclass, field

from uwsgibridge.migration.plan import Place
from uwsgibridge.migration.uwsgi.formats.entry import Note


@dataclass(slots=True)
class Item:
    """A name with its value, which changes as placeholders are replaced.

    Attributes:
        name: of the option.
        value: None where it is a flag of the command line.
        place: where it stands.
        is_bare: whether nothing but the name was written.
        is_done: whether uWSGI has applied it as soon as it was read, so that its placeholders stay.
        is_placeholder: whether it is a name for ``%( )`` alone, and no option.
        notes: what is to be said of it.
    """

    name: str
    value: str | None
    place: Place
    is_bare: bool = False
    is_done: bool = False
    is_placeholder: bool = False
    notes: list[Note] = field(default_factory=list)
