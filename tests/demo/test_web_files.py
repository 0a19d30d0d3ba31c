"""The demo's files: what a strict Content-Security-Policy allows, and nothing missing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from uwsgibridge import demo
from uwsgibridge.demo.web_files import SECURITY_HEADERS, WEB_FILES

TEMPLATES = {
    path.name: path.read_text(encoding="utf-8")
    for path in Path(next(iter(demo.__path__)), "templates").glob("*.html")
}
HTML = {
    **{name: file.body.decode() for name, file in WEB_FILES.items() if name.endswith(".html")},
    **TEMPLATES,
}


class Elements(HTMLParser):
    """All start tags with their attributes, and the text inside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open in {"script", "style"}:
            self.inline += data.strip()
            self._open = ""


def test_the_files_that_the_pages_are_made_of_are_there() -> None:
    assert {"page.html", "fastapi.html", "style.css", "page.js", "icon.svg"} <= WEB_FILES.keys()
    assert set(TEMPLATES) == {"flask.html"}


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("page.html", "text/html; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("page.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_each_file_has_its_type_and_safe_headers(name: str, content_type: str) -> None:
    headers = WEB_FILES[name].headers

    assert headers["Content-Type"] == content_type
    assert headers["Content-Length"] == str(len(WEB_FILES[name].body))
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_the_policy_allows_no_other_origin() -> None:
    assert "://" not in SECURITY_HEADERS["Content-Security-Policy"]
    assert "*" not in SECURITY_HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize("name", sorted(HTML))
def test_pages_hold_nothing_inline(name: str) -> None:
    elements = Elements(HTML[name])

    assert elements.inline == ""
    for tag, attributes in elements.found:
        assert tag != "style"
        assert "style" not in attributes
        assert not [key for key in attributes if key.startswith("on")]


@pytest.mark.parametrize("name", sorted(HTML))
def test_every_control_has_a_label_and_every_image_a_text(name: str) -> None:
    elements = Elements(HTML[name]).found
    labelled = {attributes.get("for") for tag, attributes in elements if tag == "label"}

    for tag, attributes in elements:
        if tag == "input":
            # A file input may also stand inside of its label.
            assert attributes["id"] in labelled | {"file"}
        if tag == "img":
            assert "alt" in attributes
        if tag == "progress":
            assert attributes["aria-label"]


@pytest.mark.parametrize("name", sorted({**WEB_FILES, **HTML}))
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    text = HTML[name] if name in HTML else WEB_FILES[name].body.decode()

    assert not re.search(r"""(?:src|href|url|from|import)\s*[=(]?\s*["']?(?:https?:)?//""", text)
    assert "@import" not in text


@pytest.mark.parametrize("name", sorted(name for name in WEB_FILES if name.endswith(".js")))
def test_scripts_import_what_is_there(name: str) -> None:
    text = WEB_FILES[name].body.decode()
    imported = re.findall(r'from "\./([^"]+)"|import "\./([^"]+)"', text)

    assert {first or second for first, second in imported} <= WEB_FILES.keys()


def test_elements_that_scripts_look_for_are_in_the_page() -> None:
    identifiers = {
        attributes["id"]
        for _, attributes in Elements(HTML["page.html"]).found
        if "id" in attributes
    }
    wanted = {
        identifier
        for name, file in WEB_FILES.items()
        if name.endswith(".js")
        for identifier in re.findall(r'byId\("([^"]+)"\)', file.body.decode())
    }

    assert wanted
    assert wanted <= identifiers


def test_assets_that_pages_ask_for_are_there() -> None:
    for text in HTML.values():
        asked = re.findall(r'"assets/([^"]+)"', text) + re.findall(r"'asset', name='([^']+)'", text)
        assert asked
        assert set(asked) <= WEB_FILES.keys()
