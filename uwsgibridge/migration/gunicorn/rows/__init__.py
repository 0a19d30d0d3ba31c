"""Rows of the table of gunicorn's settings."""
