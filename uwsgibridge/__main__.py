"""``python -m uwsgibridge`` and ``uwsgibridge``: the command line."""

from uwsgibridge.system.standard_streams import open_standard_streams

open_standard_streams()  # before an import could open a file

from uwsgibridge.system.collector import rare_collections  # noqa: E402 - see above

with rare_collections():
    from uwsgibridge.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
