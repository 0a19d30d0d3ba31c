"""What is asked of each configuration in configurations/, and how it is started.

The files are in the manner of those that people have: /srv/site stands for the copy of site/ that a test makes, /srv/venv
for the virtual environment of the tests, www-data for their user, and port 3031 for any port that is free.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One configuration.

    Attributes:
        name: of its file in configurations/.
        arguments: of the command line, where the file alone is not all.
        environ: variables of the process.
        paths: what is asked for.
        awaited: files of the site that come to be.
        ignored: what ``--ignore`` gets.
        refusals: parts of the one message of a configuration that is refused, in its order.
        differs: what `telling` tells and what is not the same here.
        is_compared: whether uWSGI's answers are ours but for that; else the paths get `statuses`.
        statuses: of the paths.
    """

    name: str
    arguments: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ("/a%20b/c?q=%C3%A9&q=2", "/missing")
    awaited: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    is_compared: bool = True
    statuses: tuple[int, ...] = (200, 404)

    @property
    def command(self) -> tuple[str, ...]:
        """Give uWSGI's arguments."""
        kind = Path(self.name).suffix.removeprefix(".").replace("yml", "yaml")
        return self.arguments or (f"--{kind}", self.name)

    @property
    def has_socket(self) -> bool:
        """Whether uWSGI serves the uwsgi protocol with it, on the socket that its author meant."""
        return not self.name.startswith(_WITHOUT_SOCKET)

    @property
    def is_run(self) -> bool:
        """Whether it serves here."""
        return self.has_socket and not self.refusals


# Those that speak HTTP alone or nothing at all, that uWSGI itself does not start or whose socket it has elsewhere, and the
# one that starts others.
_WITHOUT_SOCKET: Final = (
    "http-", "emperor-emperor", "comments-mode", "typos-strict", "broken-", "need-app-missing", "magic-unset",
    "comments-path", "docker-tiangolo.ini", "yaml-quotes", "mount-nothing", "no-socket",
)  # fmt: skip

_MOUNTS: Final = (
    "/",
    "/api",
    "/api/",
    "/api/x%20y?q=1",
    "/apix",
    "//api",
    "/admin/a",
    "/api/v2/z",
    "/shop/cart",
)

_SPECIAL: Final = (
    Case("django-static.ini", paths=("/static/site.css", "/static/", "/static/nothing.css", "/media/photo.txt",
                                     "/favicon.ico", "/static/../wsgi.py", "/static/img/logo.svg?v=1")),
    Case("django-check-static.ini", paths=("/site.css", "/", "/a")),
    Case("static-slashes.ini", paths=("/static/site.css", "/media/photo.txt", "/static/", "/static", "/a")),
    Case("static-twice.ini", paths=("/static/site.css", "/static/photo.txt", "/media/photo.txt", "/a")),
    Case("django-media.ini", paths=("/static/site.css", "/media/photo.txt", "/a")),
    Case("static-root.ini", paths=("/site.css", "/img/logo.svg", "/", "/a")),
    Case("django-static-expires.ini", paths=("/static/site.css", "/a")),
    *(Case(f"{it}.ini", paths=_MOUNTS) for it in (
        "flask-mount-default", "flask-mount-root", "flask-mount-unrouted", "flask-mount-unrouted-two", "flask-real",
        "mount-callable")),
    # An application that serves two prefixes has a thread for each here.
    *(Case(f"{it}.ini", paths=_MOUNTS, differs=("multithread",)) for it in ("flask-mount", "flask-mount-one")),
    # What no mount has gets 404 here, and 500 under uWSGI.
    Case("mount-no-default.ini", paths=("/api/a", "/admin/b", "/apix", "/"), is_compared=False, statuses=(200, 200, 404, 404)),
    # Under uWSGI, PATH_INFO is without its slash.
    Case("mount-slash.ini", paths=("/api/x", "/"), is_compared=False, statuses=(200, 200)),
    # The build from PyPI has neither.
    Case("json-basic.json", is_compared=False),
    Case("flask-gevent.ini", is_compared=False),
    Case("docker-env-port.ini", environ={"PORT": "3031", "APP_MODULE": "wsgi:app", "UWSGI_WORKERS_COUNT": "2"}),
    Case("docker-conditions.ini", environ={"SITE_THREADS": "3"}),
    Case("venv-relative.ini", environ={"VIRTUAL_ENV": "/srv/venv", "PWD": "/srv/site"}),
    Case("docker-tiangolo-base.ini", ("--ini", "docker-tiangolo-base.ini", "--ini", "docker-tiangolo.ini")),
    Case("docker-tcp.ini", ("docker-tcp.ini", "--die-on-term")),
    Case("docker-touch.ini", ("docker-touch.ini", "-p", "2", "--enable-threads")),
    Case("docker-http-too.ini", ignored=("http",)),
    Case("sections-named.ini", ("--ini", "sections-named.ini:production")),
    Case("systemd-app.ini", ("--ini", "/srv/site/systemd-app.ini")),
    Case("django-env.ini", ("/srv/site/django-env.ini",)),
    Case("no-master.ini", ("--ini=no-master.ini", "--master", "--processes=2", "--vacuum")),
    Case("flask-basic.ini", ("--die-on-term",), {"UWSGI_INI": "flask-basic.ini", "UWSGI_THREADS": "2"}),
    Case("hooks.ini", awaited=("run/before", "run/accepting")),
    # Ours say so; uWSGI does something else.
    Case("cron.ini", refusals=("cron.ini:4: cron =", "cron.ini:5: unique-cron =", "--ignore cron")),
    Case("spooler.ini", refusals=("spooler.ini:4: spooler =", "spooler.ini:5: mule =", "spooler.ini:6: cache2 =",
                                  "--ignore spooler --ignore mule --ignore cache")),
    Case("static-index.ini", refusals=("static-index.ini:5: static-index", "index in Nginx's location")),
    Case("hooks-exec-asap.ini", refusals=("Warning: hooks-exec-asap.ini:2:", "there is no directory /srv/site/run/made")),
    Case("comments-path.ini", refusals=("comments-path.ini:2:", "no comments behind values")),
    Case("magic-unset.ini", refusals=("magic-unset.ini:2:", "on a port by chance")),
    Case("mount-nothing.ini", refusals=("mount-nothing.ini:3:", "name the callable, such as api:application")),
    Case("yaml-quotes.yaml", refusals=("2 lines", "yaml-quotes.yaml:3:", "yaml-quotes.yaml:4:", "no quotes")),
    Case("emperor-emperor.ini", refusals=("emperor-emperor.ini:2: emperor",)),
    # uWSGI does not start either.
    Case("broken-include.ini", refusals=("broken-include.ini:2: 'parts/nothing.ini' can't be read",)),
    Case("comments-mode.ini", refusals=("comments-mode.ini:3: chmod-socket", "three octal digits")),
    Case("need-app-missing.ini", refusals=("there is no module 'no_such_module'",)),
    Case("typos-strict.ini", refusals=("typos-strict.ini:5: vaccum", "strict is on")),
    # They speak HTTP alone.
    Case("http-only.ini", refusals=("one line stands in the way", "http-only.ini:2: http = :8000")),
    Case("http-socket.ini", refusals=("http-socket.ini:2: http-socket",)),
    Case("http-routes.ini", refusals=("4 lines", "http-routes.ini:2: http", "http-routes.ini:3: https", "http-routes.ini:5: route",
                                      "http-routes.ini:6: cron", "--ignore http --ignore https --ignore route --ignore cron")),
    Case("http-protocol.ini", refusals=("http-protocol.ini:2: protocol",)),
    Case("http-django.ini", refusals=("http-django.ini:2: http",)),
    Case("http-websocket.ini", refusals=("http-websocket.ini:2: http",)),
    Case("http-tls.ini", refusals=("http-tls.ini:2: https-socket",)),
)  # fmt: skip


def all_cases() -> list[Case]:
    """Give the case of each file, in their order by name."""
    special = {it.name: it for it in _SPECIAL}
    names = sorted(it.name for it in (HERE / "configurations").iterdir())
    return [special.get(name) or Case(name) for name in names]
