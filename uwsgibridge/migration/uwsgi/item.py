"""One setting while a configuration is read."""

from __future__ import annotations

from collections.abc import Iterable

from uwsgibridge.migration.plan import Place
from uwsgibridge.migration.uwsgi.formats.entry import Note


class Item:
    """A name with its value, which changes as placeholders are replaced.

    It is no dataclass, whose making is a fifth of what reading a usual file costs.

    Attributes:
        name: of the option.
        value: None where it is a flag of the command line.
        place: where it stands.
        is_bare: whether nothing but the name was written.
        is_done: whether uWSGI has applied it as soon as it was read, so that its placeholders stay.
        is_placeholder: whether it is a name for ``%( )`` alone, and no option.
        is_named: whether the value of another one names it by ``%( )``.
        variables: the variables of the environment that its value is made of.
        notes: what is to be said of it.
    """

    __slots__ = (
        "is_bare",
        "is_done",
        "is_named",
        "is_placeholder",
        "name",
        "notes",
        "place",
        "value",
        "variables",
    )

    def __init__(
        self,
        name: str,
        value: str | None,
        place: Place,
        *,
        is_bare: bool = False,
        is_done: bool = False,
        is_placeholder: bool = False,
        notes: Iterable[Note] = (),
    ) -> None:
        self.name = name
        self.value = value
        self.place = place
        self.is_bare = is_bare
        self.is_done = is_done
        self.is_placeholder = is_placeholder
        self.is_named = False
        self.variables: tuple[str, ...] = ()
        self.notes = list(notes)
