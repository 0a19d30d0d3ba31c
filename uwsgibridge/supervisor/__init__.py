"""The parent of several workers: owns the sockets, forks, replaces, reloads, drains.

It never imports the application: a template process, started afresh for each reload, does, and forks
workers when it is asked to.
"""
