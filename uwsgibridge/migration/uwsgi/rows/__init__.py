"""The table of uWSGI's options, a file for each ground."""
