"""A Django site: the admin over a database, uploads, streams, files."""
