"""The host of WSGI applications."""
