"""The application that the integration tests speak to, once for WSGI and once for ASGI."""
