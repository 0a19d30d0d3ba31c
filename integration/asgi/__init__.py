"""ASGI behind a real Nginx: behaviours of applications, WebSocket conformance, frameworks."""
