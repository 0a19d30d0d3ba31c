"""The child: a process that serves requests, and the template that it is forked from."""
