"""The vars of a plain request, as Nginx sends them."""

from __future__ import annotations

VARS = {
    "QUERY_STRING": "a=1",
    "REQUEST_METHOD": "GET",
    "CONTENT_TYPE": "",
    "CONTENT_LENGTH": "",
    "REQUEST_URI": "/x?a=1",
    "PATH_INFO": "/x",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REQUEST_SCHEME": "http",
    "REMOTE_ADDR": "192.0.2.1",
    "REMOTE_PORT": "4711",
    "SERVER_PORT": "80",
    "SERVER_NAME": "example.com",
    "HTTP_HOST": "example.com",
}
