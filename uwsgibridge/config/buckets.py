"""Reads the value of ``--metrics-buckets``."""

from __future__ import annotations

import itertools
import math
from typing import Final

from uwsgibridge.errors import SettingsError

DEFAULT_BUCKETS: Final = "0.001,0.0025,0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10,30"

# Each costs the bridge 40 bytes for each thread, and a monitoring system five series for each mount.
_MOST: Final = 60


def parse_buckets(name: str, text: str) -> tuple[float, ...]:
    """Read the upper bounds of histograms.

    Args:
        name: of the option, for errors.
        text: seconds with commas between.

    Raises:
        SettingsError: they do not grow, are not greater than 0, or are too many.
    """
    try:
        bounds = tuple(float(it) for it in text.split(","))
    except ValueError:
        raise SettingsError(f"{name} {text!r} is no list of seconds such as 0.01,0.1,1") from None
    grows = all(one < another for one, another in itertools.pairwise(bounds))
    if not grows or not bounds[0] > 0 or not math.isfinite(bounds[-1]):
        raise SettingsError(f"{name} {text!r}: each number has to be greater than the one before")
    if len(bounds) > _MOST:
        raise SettingsError(f"{name} has {len(bounds)} numbers, and may have {_MOST}")
    return bounds
