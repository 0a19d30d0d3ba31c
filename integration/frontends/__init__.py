"""Other frontends than the one on PATH, and uWSGI beside the bridge: what each says of a request."""
