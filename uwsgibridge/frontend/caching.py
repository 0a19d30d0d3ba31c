"""What is said of the cache of a site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from uwsgibridge.frontend.values import OptionError, check_path

_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What Nginx keeps, and where.

    Args:
        directory: an absolute path. Nginx makes it where the directory above it is there.
        max_bytes: how large it may grow.
        valid_seconds: how long an answer 200 or 301 holds that does not say so itself; None keeps none.

    Raises:
        OptionError: a value can't go into a configuration.
    """

    directory: str
    max_bytes: int = 1024 * _MIB
    valid_seconds: int | None = None

    def __post_init__(self) -> None:
        check_path(self.directory, "--cache")
        if self.max_bytes < _MIB:
            raise OptionError(f"--cache-max-bytes {self.max_bytes} must be at least {_MIB}")
        if self.valid_seconds is not None and self.valid_seconds < 1:
            raise OptionError(f"--cache-valid-seconds {self.valid_seconds} must be at least 1")
