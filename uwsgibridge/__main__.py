"""``python -m uwsgibridge`` and ``uwsgibridge``: the command line."""

from uwsgibridge.system.standard_streams import open_standard_streams

open_standard_streams()  # before an import could open a file

from uwsgibridge.cli import main  # noqa: E402 - see above

__all__ = ["main"]

if __name__ == "__main__":
    main()
