"""Finds the packages of another virtual environment, for ``--virtualenv``."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from uwsgibridge.errors import SettingsError
from uwsgibridge.quick_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class VirtualEnvironment:
    """An environment that this Python can import from.

    Attributes:
        directory: of the environment, as an absolute path.
        packages: the directories of its packages.
        python: its interpreter; None where that is missing.
    """

    directory: Path
    packages: tuple[Path, ...]
    python: Path | None


def find_virtualenv(directory: str) -> VirtualEnvironment:
    """Look at an environment, as ``python -m venv`` and virtualenv make it.

    Args:
        directory: of the environment.

    Raises:
        SettingsError: there is none, or it is one of another Python, whose packages can't be imported here.
    """
    place = Path(directory).absolute()
    try:
        text = (place / "pyvenv.cfg").read_text("utf-8")
    except FileNotFoundError:
        what = "is no virtual environment" if place.is_dir() else "is no directory"
        raise SettingsError(
            f"--virtualenv {directory}: it {what}; name a directory that python -m venv has made"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "pyvenv.cfg is not UTF-8"
        raise SettingsError(f"--virtualenv {directory}: {reason}") from None
    theirs, ours = _version(text), sys.version_info[:2]
    if theirs is not None and theirs != ours:
        raise SettingsError(
            f"--virtualenv {directory}: it is one of Python {theirs[0]}.{theirs[1]}, and this is Python {ours[0]}.{ours[1]}; "
            "install uwsgibridge in that environment, and start it there without --virtualenv"
        )
    packages = _packages(place)
    if not packages:
        raise SettingsError(
            f"--virtualenv {directory}: it has no packages for this Python ({_places(place)[0]} is missing); install "
            "uwsgibridge in that environment, and start it there without --virtualenv"
        )
    python = place / "bin" / "python"
    return VirtualEnvironment(place, packages, python if python.exists() else None)


def _version(text: str) -> tuple[int, int] | None:
    """Give the version of Python that ``pyvenv.cfg`` names; None where it names none."""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        # venv writes the first one, virtualenv and uv the second one.
        if key.strip().lower() in {"version", "version_info"}:
            parts = value.strip().split(".")
            if len(parts) >= 2 and parts[0].isdecimal() and parts[1].isdecimal():
                return int(parts[0]), int(parts[1])
    return None


def _places(directory: Path) -> tuple[Path, ...]:
    # The name of the directory tells also whether it is for a Python without the GIL.
    base = {"base": str(directory), "platbase": str(directory)}
    return tuple(Path(sysconfig.get_path(name, "venv", base)) for name in ("purelib", "platlib"))


def _packages(directory: Path) -> tuple[Path, ...]:
    found: list[Path] = []
    for place in _places(directory):
        # On some systems, lib64 is a link to lib.
        if place.is_dir() and not any(place.samefile(it) for it in found):
            found.append(place)
    return tuple(found)
