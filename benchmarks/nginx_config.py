"""The one Nginx in front of all servers: which binary, and its configuration."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from benchmarks.errors import BenchmarkError
from uwsgibridge.frontend.binary import NginxNotFoundError, choose_nginx

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

READY_TEXT = "start worker process"
"""Nginx logs it, at level notice, when its sockets listen."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server behind Nginx: a request with `name` as its Host goes to `endpoint` ("unix:/path" or "host:port")."""

    name: str
    protocol: Literal["uwsgi", "http", "http-close"]
    endpoint: str


def find_nginx() -> str:
    """Return the path of the Nginx that `dev` and the tests would run, too."""
    try:
        return str(choose_nginx().path)
    except NginxNotFoundError as error:
        raise BenchmarkError(f"{error}.") from None


def nginx_argv(nginx: str, directory: Path) -> list[str]:
    """Return the command line for an Nginx whose directory holds nginx.conf, and that logs to stderr."""
    return [nginx, "-p", f"{directory}/", "-c", "nginx.conf", "-e", "stderr"]


def render(
    port: int, upstreams: Sequence[Upstream], *, connections: int, tells_time: bool = False
) -> str:
    """Return an nginx.conf that listens on 127.0.0.1:port.

    Args:
        port: for wrk.
        upstreams: the servers, one virtual host each.
        connections: as many as wrk will ever open at once.
        tells_time: whether uwsgi servers are told when Nginx has sent a request.
    """
    hosts = "\n".join(_host(port, upstream, connections, tells_time) for upstream in upstreams)
    return f"""\
daemon off;
{_user()}worker_processes 1;
pid nginx.pid;
error_log stderr notice;
events {{
    # A connection from wrk and one to the server for each request, and as many again that Nginx has not closed yet
    # since the last turn, or keeps for an HTTP server. It closes lasting ones before the last sixteenth is used
    # (ngx_drain_connections), and refuses a client where none is left.
    worker_connections {8 * connections + 64};
}}
http {{
    access_log off;
    client_max_body_size 0;
    # A body goes to the server from memory, whichever way it came.
    client_body_buffer_size 256k;
    # wrk's connections, and those to an HTTP server, stay for the whole run.
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    uwsgi_temp_path uwsgi;
    fastcgi_temp_path fastcgi;
    scgi_temp_path scgi;
{hosts}
}}
"""


def _user() -> str:
    # Started by root, its workers would become "nobody", who may not enter a private directory with the sockets.
    if os.geteuid() != 0:
        return ""
    return f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(os.getegid()).gr_name};\n"


def _host(port: int, upstream: Upstream, connections: int, tells_time: bool) -> str:
    name = upstream.name
    sent = "            uwsgi_param UWSGIBRIDGE_SENT $msec;\n" if tells_time else ""
    keepalive = ""
    if upstream.protocol == "http":
        keepalive = f"""
        keepalive {connections};
        keepalive_requests 1000000000;
        keepalive_timeout 600s;"""
    return f"""
    upstream {name} {{
        server "{upstream.endpoint}";{keepalive}
    }}
    server {{
        listen 127.0.0.1:{port};
        server_name {name};
        location / {{
{sent}{_PASS[upstream.protocol]}{name};
        }}
{_WEBSOCKETS.format(name=name) if upstream.protocol != "uwsgi" else ""}    }}"""


# The vars are those of the uwsgi_params file that comes with Nginx.
_UWSGI_PASS = """\
            uwsgi_param QUERY_STRING $query_string;
            uwsgi_param REQUEST_METHOD $request_method;
            uwsgi_param CONTENT_TYPE $content_type;
            uwsgi_param CONTENT_LENGTH $content_length;
            uwsgi_param REQUEST_URI $request_uri;
            uwsgi_param PATH_INFO $document_uri;
            uwsgi_param DOCUMENT_ROOT $document_root;
            uwsgi_param SERVER_PROTOCOL $server_protocol;
            uwsgi_param REQUEST_SCHEME $scheme;
            uwsgi_param HTTPS $https if_not_empty;
            uwsgi_param REMOTE_ADDR $remote_addr;
            uwsgi_param REMOTE_PORT $remote_port;
            uwsgi_param SERVER_PORT $server_port;
            uwsgi_param SERVER_NAME $server_name;
            uwsgi_pass """

# A tunnel, which uwsgi_pass makes by itself.
_WEBSOCKETS = """\
        location /ws {{
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header Host $http_host;
            proxy_pass http://{name};
        }}
"""

# What an HTTP server needs to know the same: the host, the client's address and the scheme.
_PROXY_PASS = """\
            proxy_http_version 1.1;
            proxy_set_header Connection "{connection}";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_pass http://"""

_PASS = {
    "uwsgi": _UWSGI_PASS,
    "http": _PROXY_PASS.format(connection=""),
    "http-close": _PROXY_PASS.format(connection="close"),
}
