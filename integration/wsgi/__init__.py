"""WSGI behind a real Nginx: misbehaving applications, real ones, files, threads, mounts, limits."""
