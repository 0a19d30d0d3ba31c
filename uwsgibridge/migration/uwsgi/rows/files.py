"""Rows of static files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from uwsgibridge.migration.plan import Setting
from uwsgibridge.migration.uwsgi import meaning
from uwsgibridge.migration.uwsgi.translation import (
    Row,
    Translation,
    mapped,
    passed_over,
    refused,
    text_of,
    warned,
)

_SERVING: Final = ("static-map", "check-static", "static-check")


def _static(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        url, equals, place = text_of(setting).partition("=")
        if not equals or not url.startswith("/") or not place:
            translation.refuse(setting, "It is not of the form /url=directory.", row.group)
        else:
            _serve(translation, row, setting, url, place)


def _check_static(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        _serve(translation, row, setting, "/", text_of(setting))


def _serve(translation: Translation, row: Row, setting: Setting, url: str, place: str) -> None:
    path = meaning.path(place, translation.directory)
    # uWSGI looks for files after it has cut a mount's prefix off (uwsgi_parse_vars in its core/protocol.c).
    urls = [url, *((prefix + url).rstrip("/") for prefix in _prefixes(translation))]
    translation.map(setting, row.group, static=[f"{it}={path}" for it in urls])


def _prefixes(translation: Translation) -> list[str]:
    """Give the prefixes of mounts that uWSGI cuts off, each once."""
    if not translation.is_on("manage-script-name"):
        return []
    mounts = [it for it in translation.settings if it.name == "mount"]
    prefixes = [text_of(it).partition("=")[0].rstrip("/") for it in mounts]
    return [it for it in dict.fromkeys(prefixes) if it.startswith("/")]


def _beside_files(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    """Refuse what changes which files are served, where there are files at all."""
    for setting in settings:
        if translation.last(*_SERVING) is None:
            translation.pass_over(setting, "There are no static files.", row.group)
        else:
            translation.refuse(setting, row.text, row.group)


def _refused_beside_files(names: str, text: str) -> Row:
    plain = refused(names, text)
    return Row(names=plain.names, verdict=plain.verdict, text=text, translate=_beside_files)


ROWS: Final = (
    mapped("static-map", "`--static URL=DIR`, below the prefix of each mount as well", _static),
    mapped("check-static static-check", "`--static /=DIR`, below the prefix of each mount as well", _check_static),
    refused("static-map2", "It adds the whole path to the directory: write static-map = /url=directory/url."),
    _refused_beside_files(
        "static-skip-ext",
        "--static would serve the files that it leaves to the application: have static-map or check-static name a directory "
        "without them.",
    ),
    _refused_beside_files(
        "static-index",
        "--static serves no index of a directory: write index in Nginx's location, or have the application answer.",
    ),
    warned("static-safe", "A link that leads out of the directory of --static is not followed: name the directory itself by static-map."),
    warned("static-cache-paths static-cache-paths-name static-expires static-expires-mtime "
           "static-expires-type static-expires-type-mtime static-expires-path-info static-expires-path-info-mtime "
           "static-expires-uri static-expires-uri-mtime static-gzip static-gzip-all static-gzip-dir static-gzip-ext "
           "static-gzip-prefix static-gzip-suffix mime-file mimefile check-cache fileserve-mode",
           "Nginx does that better for files: expires, gzip_static and types in its location."),
    passed_over("offload-threads offload-thread", "Files are sent by the kernel (sendfile), or by Nginx (--offload)."),
    passed_over("file-serve-mode honour-range", "Ranges are always answered; --offload leaves files to Nginx."),
)  # fmt: skip
