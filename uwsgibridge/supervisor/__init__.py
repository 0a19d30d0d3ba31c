"""The parent of several workers: owns the sockets, forks, replaces, reloads, drains.

The supervisor never imports the application. A template process does, which forks workers on demand. Each reload
starts a new template.
"""
