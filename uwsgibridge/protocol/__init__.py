"""The uwsgi protocol without any I/O: bytes to requests, answers to bytes.

Every rule about the wire stands here and nowhere else. Nothing in this package knows a socket, an
event loop or a thread; a test holds that.
"""
