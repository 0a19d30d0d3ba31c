"""The host of ASGI applications."""
