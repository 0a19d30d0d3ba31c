"""The variable by which an application is told to share its figures."""

from __future__ import annotations

from typing import Final

# prometheus_client/values.py; `MultiProcessCollector` reads it as well.
VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
