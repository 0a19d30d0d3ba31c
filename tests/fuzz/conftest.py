"""How long the generated tests search: briefly in `make test`, for minutes in `make fuzz`."""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, settings

from tests.ways import both_ways  # noqa: F401 - a fixture

# A machine that is busy with other tests makes examples slowly, which is no fault of theirs.
_BUSY: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# The same examples each time: `make test` judges a change, it does not look for news.
settings.register_profile("quick", _BUSY, max_examples=80, derandomize=True)
settings.register_profile("fuzz", _BUSY, max_examples=3_000, print_blob=True)

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
