"""The configurations of the frontends, for one server behind a unix socket.

Each writes what people write: the distribution's own params, and what is put behind their include.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# nginx's own file, conf/uwsgi_params, the same since 1.9.
UWSGI_PARAMS: Final = """
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
"""

# Debian 12 and 13 put this line after it.
DEBIAN_PARAMS: Final = f"{UWSGI_PARAMS}uwsgi_param HTTP_HOST $host;\n"

# Below each of these paths, what stands behind the include of Debian's file.
BEHIND_THE_INCLUDE: Final = {
    "nothing": "",
    "host": "uwsgi_param HTTP_HOST $http_host;",
    "path": "uwsgi_param PATH_INFO /overruled;",
    "names": "uwsgi_param SERVER_NAME overruled.example; uwsgi_param SERVER_PORT 8443;",
    "address": "uwsgi_param REMOTE_ADDR 203.0.113.9;",
    "user": "uwsgi_param REMOTE_USER first; uwsgi_param REMOTE_USER last;",
    "header": "uwsgi_param HTTP_X_USER first; uwsgi_param HTTP_X_USER last;",
    "header-of-a-snippet": (
        "uwsgi_param HTTP_X_USER first; uwsgi_param X_OTHER x; uwsgi_param HTTP_X_USER last;"
    ),
    "list": "uwsgi_param HTTP_ACCEPT first; uwsgi_param HTTP_ACCEPT last; uwsgi_param X_OTHER x;",
    "no-user": 'uwsgi_param HTTP_X_USER "" if_not_empty;',
    "https": "uwsgi_param HTTPS on;",
    "https-1": "uwsgi_param HTTPS 1;",
    "https-off": "uwsgi_param REQUEST_SCHEME https; uwsgi_param HTTPS off;",
    "forwarded": "uwsgi_param HTTPS $http_x_forwarded_proto;",
    "uwsgi-scheme": "uwsgi_param UWSGI_SCHEME https;",
}

CACHE: Final = """
uwsgi_cache pages;
uwsgi_cache_key $request_uri;
uwsgi_cache_valid 200 1m;
add_header X-Cache $upstream_cache_status;
"""


def nginx(directory: Path, address: str, upstream: str) -> str:
    def location(path: str, params: str, rest: str = "") -> str:
        return f"location {path} {{ {params} uwsgi_pass unix:{upstream}; {rest} }}"

    temporary = "\n".join(
        f"{name}_temp_path {directory}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    locations = "\n".join(
        location(f"/behind/{name}/", f"{DEBIAN_PARAMS} {more}")
        for name, more in BEHIND_THE_INCLUDE.items()
    )
    return f"""
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
{"user root;" if os.geteuid() == 0 else ""}
worker_processes 1;
events {{ }}
http {{
access_log off;
{temporary}
uwsgi_cache_path {directory}/cache keys_zone=pages:1m;
server {{
    listen unix:{address};
    server_name configured.example;
    {location("/", UWSGI_PARAMS)}
    {locations}
    {location("/headers/", UWSGI_PARAMS + BEHIND_THE_INCLUDE["header"])}
    {location("/rewritten/", UWSGI_PARAMS, "rewrite ^ /elsewhere/x break;")}
    location /failing/ {{ error_page 404 /error-page; return 404; }}
    {location("= /error-page", UWSGI_PARAMS)}
    location /protected/ {{ internal; alias {directory}/files/; }}
    {location("/cached/", UWSGI_PARAMS, CACHE)}
    {location("/guarded/", UWSGI_PARAMS, "auth_request /auth;")}
    {location("= /auth", UWSGI_PARAMS + 'uwsgi_param CONTENT_LENGTH "";', "internal; uwsgi_pass_request_body off;")}
}}
server {{
    listen unix:{address}.gzip;
    gzip on;
    gzip_types *;
    gzip_min_length 1;
    gzip_http_version 1.0;
    {location("/", UWSGI_PARAMS)}
}}
server {{
    listen unix:{address}.underscores;
    underscores_in_headers on;
    {location("/", UWSGI_PARAMS)}
    {location("/own/", UWSGI_PARAMS + "uwsgi_param HTTP_X_USER own;")}
}}
}}
"""


def apache(directory: Path, address: str, upstream: str) -> str:
    modules = "\n".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
        for name in ("mpm_event", "proxy", "proxy_uwsgi", "env", "headers", "authz_core")
    )
    account = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    return f"""
ServerRoot {directory}
ServerName configured.example
PidFile {directory}/apache.pid
ErrorLog {directory}/error.log
DefaultRuntimeDir {directory}
Listen {address}
{modules}
{account}
SetEnv HTTPS on
SetEnv REMOTE_USER apache
SetEnv REMOTE_ADDR 203.0.113.9
SetEnv HTTP_X_SET_ENV apache
RequestHeader set X-User apache
ProxyPass / unix:{upstream}|uwsgi://localhost/
"""


def lighttpd(directory: Path, address: str, upstream: str) -> str:
    return f"""
server.document-root = "{directory}"
server.bind = "{address}"
server.errorlog = "{directory}/error.log"
server.upload-dirs = ("{directory}")
server.modules = ("mod_scgi", "mod_setenv")
scgi.protocol = "uwsgi"
scgi.server = ("/" => ((
    "socket" => "{upstream}", "check-local" => "disable", "fix-root-scriptname" => "enable"
)))
setenv.add-environment = ("HTTP_X_USER" => "lighttpd", "HTTPS" => "on")
$SERVER["socket"] == "{address}.overruled" {{
    setenv.add-environment = ("PATH_INFO" => "/overruled")
}}
setenv.set-request-header = ("X-Set" => "lighttpd")
"""
