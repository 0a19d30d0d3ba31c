"""Publishes figures: pages on a uwsgi socket of their own, a file, statsd, and uWSGI's statistics."""
