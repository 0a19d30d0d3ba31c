"""The formats of uWSGI's configurations: the text of a file becomes names and values, in their order."""
