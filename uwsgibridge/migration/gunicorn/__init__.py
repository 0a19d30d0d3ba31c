"""Reads configurations of gunicorn, and says what they are here."""
