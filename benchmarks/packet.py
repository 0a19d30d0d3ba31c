"""The packet of a request, for loads that ask a server without Nginx."""

from __future__ import annotations

from uwsgibridge.protocol.packet import encode_packet


def make_packet(path: str, method: str = "GET") -> bytes:
    """Make the packet of a request: the vars of Nginx's uwsgi_params, and one header."""
    return encode_packet(
        {
            "QUERY_STRING": "",
            "REQUEST_METHOD": method,
            "CONTENT_TYPE": "",
            "CONTENT_LENGTH": "",
            "REQUEST_URI": path,
            "PATH_INFO": path,
            "DOCUMENT_ROOT": "/usr/share/nginx/html",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REQUEST_SCHEME": "http",
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_PORT": "40000",
            "SERVER_PORT": "80",
            "SERVER_NAME": "bench",
            "HTTP_HOST": "bench",
        }
    )
