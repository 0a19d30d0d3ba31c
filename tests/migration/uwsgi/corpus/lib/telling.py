"""Applications that answer with what their server has told them, in one form for all servers."""

import json
import os
import sys
from pathlib import Path


def teller(name, **further):
    """Make an application.

    Args:
        name: of the module that it is in.
        further: what else it tells.
    """

    def application(environ, start_response):
        start = os.environ["SITE_START"]
        variables = {
            key: value
            for key, value in environ.items()
            if isinstance(value, str) and not key.startswith(("uwsgi.", "wsgi.", "SERVER_SOFTWARE"))
        }
        variables.setdefault("SCRIPT_NAME", "")
        # What Nginx sends of it beside CONTENT_LENGTH is no variable of CGI, and uWSGI alone passes it on.
        variables.pop("HTTP_CONTENT_LENGTH", None)
        places = [os.path.normpath(Path.cwd() / it) for it in sys.path]
        told = {
            "module": name.replace(start.replace("/", "_"), "_srv_site"),
            "environ": variables,
            "multithread": environ["wsgi.multithread"],
            "scheme": environ["wsgi.url_scheme"],
            "body": environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode(),
            "directory": str(Path.cwd()),
            "sys.path": list(dict.fromkeys(it for it in places if it.startswith(start))),
            "variables": {
                key: value
                for key, value in sorted(os.environ.items())
                if key.startswith(("SITE_", "DJANGO_", "LANG"))
            },
            **further,
        }
        text = json.dumps(told, indent=1, sort_keys=True).replace(start, "/srv/site").encode()
        status = "404 Not Found" if environ["PATH_INFO"].endswith("/missing") else "200 OK"
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(text)))]
        start_response(status, [*headers, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return [text]

    return application
