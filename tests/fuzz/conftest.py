"""How long the generated tests search: briefly in `make test`, for minutes in `make fuzz`."""

from __future__ import annotations

import os

from hypothesis import settings

from tests.ways import both_ways  # noqa: F401 - a fixture

# The same examples each time: `make test` judges a change, it does not look for news.
settings.register_profile("quick", max_examples=80, deadline=None, derandomize=True)
settings.register_profile("fuzz", max_examples=3_000, deadline=None, print_blob=True)

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
