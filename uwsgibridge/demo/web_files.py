"""The HTML, CSS, JavaScript and icons of the demo, and the headers that they are sent with.

All files are read once, at import. A request finds its file by name in a dict, and never reaches the file system.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# The pages load nothing from elsewhere and hold no inline script or style.
SECURITY_HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": (
            "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
        ),
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }
)


@dataclass(frozen=True, slots=True)
class WebFile:
    """One file as it is sent."""

    body: bytes
    content_type: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the file; `no-cache`, since another version of the package may answer the next time."""
        return {
            "Content-Type": self.content_type,
            "Content-Length": str(len(self.body)),
            "Cache-Control": "no-cache",
            **SECURITY_HEADERS,
        }


def _read_all() -> dict[str, WebFile]:
    files = {}
    for entry in resources.files("uwsgibridge.demo").joinpath("static").iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in _CONTENT_TYPES:
            files[entry.name] = WebFile(entry.read_bytes(), _CONTENT_TYPES[suffix])
    return files


WEB_FILES: Mapping[str, WebFile] = MappingProxyType(_read_all())
