"""Tests that boot a real Nginx in front of a bridge, as processes and as containers."""
