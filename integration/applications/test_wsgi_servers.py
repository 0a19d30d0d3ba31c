"""Radicale, WsgiDAV and klaus: calendars, files and git repositories, by what their clients send."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree as ET

import requests

from integration.applications.checks import Checks, downloading, new_browser, uploading
from integration.applications.site import ON_THREADS, Kind, Site
from uwsgibridge.testing import Site as NginxSite

MIB = 1024 * 1024

# Larger than all buffers on the way.
LARGE = bytes(range(256)) * 4 * 1024 * 40

DAV = "{DAV:}"
CALDAV = "{urn:ietf:params:xml:ns:caldav}"


class OfWsgi(Checks):
    kinds: ClassVar[tuple[Kind, ...]] = ON_THREADS
    nginx: ClassVar[NginxSite] = NginxSite(client_max_body_bytes=0)


# --- Radicale -------------------------------------------------------------------------------------

CALENDAR = """<?xml version="1.0"?>
<mkcalendar xmlns="urn:ietf:params:xml:ns:caldav" xmlns:D="DAV:"><D:set><D:prop>
<D:displayname>Of Ada</D:displayname></D:prop></D:set></mkcalendar>"""

EVENT = """BEGIN:VCALENDAR\r
VERSION:2.0\r
PRODID:-//a test//EN\r
BEGIN:VEVENT\r
UID:{uid}\r
DTSTAMP:20260101T000000Z\r
DTSTART:{day}T090000Z\r
DTEND:{day}T100000Z\r
SUMMARY:{summary}\r
END:VEVENT\r
END:VCALENDAR\r
"""

OF_MARCH = """<?xml version="1.0"?>
<C:calendar-query xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav">
<D:prop><D:getetag/><C:calendar-data/></D:prop>
<C:filter><C:comp-filter name="VCALENDAR"><C:comp-filter name="VEVENT">
<C:time-range start="20260301T000000Z" end="20260401T000000Z"/>
</C:comp-filter></C:comp-filter></C:filter></C:calendar-query>"""


class TestRadicale(OfWsgi):
    app: ClassVar[str] = "radicale_app:app"
    needs: ClassVar[tuple[str, ...]] = ("radicale",)
    excused: ClassVar[tuple[str, ...]] = (
        # It takes what `wsgi.input` raises for a failure of its own, and answers 500.
        r"^ERROR:root:Traceback (?s:.*?)^uwsgibridge\.[\w.]+\.PeerGone.*\n",
        r"^CRITICAL:radicale:PUT response status .* 500 Internal Server Error\n",
    )
    # Clients leave in the middle of what they send.
    nginx: ClassVar[NginxSite] = NginxSite(request_buffering=False)

    def use(self, site: Site) -> None:
        with self._client() as ask:
            calendar = f"{site.url}/ada/{secrets.token_hex(4)}/"
            assert ask("MKCALENDAR", calendar, data=CALENDAR).status_code == 201
            for uid, day in (("one", "20260310"), ("two", "20260410")):
                event = EVENT.format(uid=uid, day=day, summary=f"caf\u00e9 {uid}")
                put = ask("PUT", f"{calendar}{uid}.ics", data=event.encode())
                assert put.status_code == 201
            taken = ask(
                "PUT", f"{calendar}one.ics", data=event.encode(), headers={"If-None-Match": "*"}
            )
            assert taken.status_code == 412
            report = ask("REPORT", calendar, data=OF_MARCH, headers={"Depth": "1"})
            assert report.status_code == 207
            found = [it.text for it in ET.fromstring(report.content).iter(f"{CALDAV}calendar-data")]
            assert len(found) == 1
            assert "caf\u00e9 one" in str(found[0])
            assert ask("GET", f"{calendar}one.ics").headers["Content-Type"].startswith("text/cal")
            assert ask("DELETE", calendar).status_code == 200

    def ask(self, site: Site, browser: requests.Session) -> None:
        answer = browser.request("PROPFIND", f"{site.url}/", headers={"Depth": "0"}, timeout=20)
        assert answer.status_code == 207

    @contextlib.contextmanager
    def open(self, site: Site) -> Iterator[Callable[[], None]]:
        calendar = f"{site.url}/ada/{secrets.token_hex(4)}/"
        with self._client() as ask:
            assert ask("MKCALENDAR", calendar, data=CALENDAR).status_code == 201
        event = EVENT.format(uid="long", day="20260310", summary="word " * 10_000).encode()
        name_and_password = base64.b64encode(b"ada:").decode()
        headers = {"Authorization": f"Basic {name_and_password}"}
        with uploading(f"{calendar}long.ics", event, headers, status=201) as send:
            yield send

    @contextlib.contextmanager
    def _client(self) -> Iterator[Callable[..., requests.Response]]:
        with new_browser() as browser:

            def ask(method: str, url: str, **more: Any) -> requests.Response:
                return browser.request(method, url, auth=("ada", ""), timeout=60, **more)

            yield ask


# --- WsgiDAV --------------------------------------------------------------------------------------


class TestWsgiDav(OfWsgi):
    app: ClassVar[str] = "wsgidav_app:app"
    needs: ClassVar[tuple[str, ...]] = ("wsgidav",)

    def use(self, site: Site) -> None:
        with new_browser() as browser:
            name = secrets.token_hex(4)
            url = f"{site.url}/{name} file.bin"
            assert browser.put(url, data=LARGE, timeout=60).status_code == 201
            listed = browser.request("PROPFIND", site.url, headers={"Depth": "1"}, timeout=20)
            assert listed.status_code == 207
            sizes = {
                it.findtext(f"{DAV}href"): it.findtext(f".//{DAV}getcontentlength")
                for it in ET.fromstring(listed.content).iter(f"{DAV}response")
            }
            assert sizes[f"/{name}%20file.bin"] == str(len(LARGE))
            assert browser.get(url, timeout=60).content == LARGE
            moved = {"Destination": f"{site.url}/{name}.moved"}
            assert browser.request("MOVE", url, headers=moved, timeout=20).status_code == 201
            assert browser.delete(f"{site.url}/{name}.moved", timeout=20).status_code == 204

    def ask(self, site: Site, browser: requests.Session) -> None:
        answer = browser.request("PROPFIND", site.url, headers={"Depth": "0"}, timeout=20)
        assert answer.status_code == 207

    @contextlib.contextmanager
    def open(self, site: Site) -> Iterator[Callable[[], None]]:
        (site.directory / "share" / "large.bin").write_bytes(LARGE)
        with downloading(f"{site.url}/large.bin", len(LARGE)) as read:
            yield read


# --- klaus ----------------------------------------------------------------------------------------


class TestKlaus(OfWsgi):
    app: ClassVar[str] = "klaus_app:app"
    needs: ClassVar[tuple[str, ...]] = ("klaus",)

    def prepare(self, directory: Path) -> None:
        project = directory / "project"
        git(directory, "init", "--quiet", "--initial-branch=main", str(project))
        (project / "read me.txt").write_text("caf\u00e9\n")
        (project / "large.bin").write_bytes(LARGE)
        git(project, "add", ".")
        git(project, "commit", "--quiet", "--message=The first")

    def use(self, site: Site) -> None:
        with new_browser() as browser:
            self.ask(site, browser)
            blob = browser.get(f"{site.url}/project/blob/main/read me.txt", timeout=20)
            assert "caf\u00e9" in blob.text
            raw = browser.get(f"{site.url}/project/raw/main/read me.txt", timeout=20)
            assert raw.content == "caf\u00e9\n".encode()
            assert browser.get(f"{site.url}/project/tree/none/", timeout=20).status_code == 404
        clone = site.directory / secrets.token_hex(4)
        git(site.directory, "clone", "--quiet", f"{site.url}/project", str(clone))
        assert (clone / "large.bin").read_bytes() == LARGE

    def ask(self, site: Site, browser: requests.Session) -> None:
        assert "The first" in browser.get(f"{site.url}/project/", timeout=20).text

    @contextlib.contextmanager
    def open(self, site: Site) -> Iterator[Callable[[], None]]:
        with downloading(f"{site.url}/project/raw/main/large.bin", len(LARGE)) as read:
            yield read


def git(directory: Path, *arguments: str) -> None:
    """Run the real client, with nobody's configuration."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments],
        cwd=directory,
        env={
            **ours,
            "HOME": str(directory),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "no_proxy": "*",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
