"""The same site in each framework: forms, uploads, streams, events, WebSockets, lifespan, background tasks."""
