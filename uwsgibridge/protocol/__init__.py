"""The uwsgi protocol without any I/O: bytes to requests, answers to bytes.

Every rule about the wire stands in this package, and nowhere else. No module of it uses a socket, an event loop or
a thread; a test checks that.
"""
