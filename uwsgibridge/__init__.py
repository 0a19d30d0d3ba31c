"""uwsgibridge: the Python application server behind Nginx's ``uwsgi_pass``."""

from uwsgibridge._version import __version__

__all__ = ["__version__"]
