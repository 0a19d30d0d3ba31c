"""XML, as uWSGI reads it with libxml2, and a word where its other reader, expat, gives something else.

The standard library's parser is enough: a document with a DTD is refused, so that no entity is expanded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from uwsgibridge.migration.plan import Verdict
from uwsgibridge.migration.uwsgi.formats.entry import Entry, FormatError, Note
from uwsgibridge.migration.uwsgi.limits import MOST_XML_DEPTH
from uwsgibridge.migration.uwsgi.magic import Text

_ROOT: Final = "uwsgi"


@dataclass(slots=True)
class _Element:
    name: str
    attributes: dict[str, str]
    line: int
    # Before the first child, in the pieces that expat gives.
    texts: list[str] = field(default_factory=list)
    children: list[_Element] = field(default_factory=list)
    is_cdata: bool = False


def read_xml(text: Text, identifier: str | None) -> list[Entry]:
    """Read the element ``<uwsgi>``, which is the outermost one, or the first of that name in it.

    Args:
        text: the document.
        identifier: which one counts, by its attribute ``id``; None for any.

    Raises:
        FormatError: it is no XML, has a DTD, or has no such element.
    """
    root = _parse(text)
    if root.name != _ROOT:
        chosen = [
            it
            for it in root.children
            if it.name == _ROOT
            and (identifier is None or it.attributes.get("id", identifier) == identifier)
        ]
        if not chosen:
            wanted = "" if identifier is None else f' with id="{identifier}"'
            raise FormatError(
                root.line, f"there is no element <uwsgi>{wanted}, and uWSGI would not start"
            )
        root = chosen[0]
    return [
        entry
        for element in root.children
        if identifier is None or element.attributes.get("id", identifier) == identifier
        for entry in _entries(element)
    ]


def _entries(element: _Element) -> Iterator[Entry]:
    text = "".join(element.texts)
    if element.is_cdata:
        yield Entry("eval", text, element.line)
    elif element.name == "app":
        target = element.attributes.get("mountpoint", "")
        host = element.attributes.get("domain")
        if element.children:
            raise FormatError(
                element.line,
                "<app> with elements in it is not read; write <mount>/prefix=module</mount>",
            )
        if text:
            prefix = f"{target}=" if target else "" if host is None else f"{host}|="
            yield Entry("mount", prefix + text, element.line)
    elif element.children and not element.texts:
        raise FormatError(
            element.line,
            f"<{element.name}> has an element in place of a value; uWSGI does not bear that",
        )
    elif not element.texts:
        yield Entry(element.name, "1", element.line)
    else:
        yield Entry(element.name, text, element.line, notes=_notes(element, text))


def _notes(element: _Element, text: str) -> tuple[Note, ...]:
    if element.texts[0] == text:
        return ()
    message = (
        f"uWSGI reads it in two ways: built with libxml2 as {text!r}, built with expat as {element.texts[0]!r}. "
        "Write the value in one line, and without & (--ignore xml-form takes libxml2's)."
    )
    return ((Verdict.REFUSED, message, "xml-form"),)


def _parse(text: Text) -> _Element:
    parser = expat.ParserCreate("utf-8")
    tree = _Tree(parser, text)
    try:
        parser.Parse(text.joined().encode("utf-8", "surrogateescape"), True)
    except expat.ExpatError as error:
        raise FormatError(
            text.number(error.lineno), f"it is no XML: {expat.ErrorString(error.code)}"
        ) from None
    return tree.root


class _Tree:
    """Keeps the elements of a document."""

    def __init__(self, parser: expat.XMLParserType, text: Text) -> None:
        self._parser = parser
        self._text = text
        self._open: list[_Element] = []
        self.root = _Element("", {}, 0)
        parser.StartDoctypeDeclHandler = self._refuse_dtd
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartCdataSectionHandler = self._start_cdata
        parser.EndCdataSectionHandler = self._end_cdata

    def _refuse_dtd(self, *_: object) -> None:
        raise FormatError(self._line(), "it has a DTD (<!DOCTYPE>), which has to go")

    def _line(self) -> int:
        return self._text.number(self._parser.CurrentLineNumber)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        element = _Element(name, attributes, self._line())
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)
        if len(self._open) > MOST_XML_DEPTH:
            raise FormatError(element.line, f"its elements are nested deeper than {MOST_XML_DEPTH}")

    def _end(self, _name: str) -> None:
        self._open.pop()

    def _characters(self, data: str) -> None:
        if self._open and not self._open[-1].children:
            self._open[-1].texts.append(data)

    def _start_cdata(self) -> None:
        # Where options stand, such a section is code; within a value it is text.
        is_code = bool(self._open) and self._open[-1].name == _ROOT
        if is_code:
            element = _Element("", {}, self._line(), is_cdata=True)
            self._open[-1].children.append(element)
            self._open.append(element)

    def _end_cdata(self) -> None:
        if self._open and self._open[-1].is_cdata:
            self._open.pop()
