"""What is wrong with a configuration of another server."""

from __future__ import annotations


class ConfigurationError(Exception):
    """A configuration can't be read; the message names its place and what would mend it."""
