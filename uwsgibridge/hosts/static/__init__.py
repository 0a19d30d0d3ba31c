"""The host of ``--static``: answers with files, and passes on to the applications what is none."""
