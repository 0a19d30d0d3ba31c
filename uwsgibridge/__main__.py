"""``python -m uwsgibridge``: the command line."""

from uwsgibridge.cli import main

if __name__ == "__main__":
    main()
