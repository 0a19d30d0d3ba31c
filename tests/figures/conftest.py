"""What is recorded is the same with the accelerator and without it."""

from __future__ import annotations

from tests.ways import both_ways

__all__ = ["both_ways"]
