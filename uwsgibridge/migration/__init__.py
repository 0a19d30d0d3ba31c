"""Reads configurations of uWSGI and gunicorn, and says what they are here. Nothing else knows their names."""
