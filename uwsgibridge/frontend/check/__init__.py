"""``uwsgibridge nginx --check``: reads Nginx configurations, and judges each way that leads to a ``uwsgi_pass``.

`reading` makes directives of text, `files` follows the includes, `tree` says what is in force where, `rules` judge,
and `report` is what comes of it. Nothing here starts an Nginx or changes a file.
"""
