"""Rows of sockets, and of how requests arrive."""

from __future__ import annotations

import re
from typing import Final

from uwsgibridge.config.peers import parse_network
from uwsgibridge.errors import SettingsError
from uwsgibridge.migration.gunicorn.environment_reads import EXPANDED
from uwsgibridge.migration.gunicorn.given import Given
from uwsgibridge.migration.gunicorn.paths import absolute
from uwsgibridge.migration.gunicorn.translation import (
    Row,
    Translation,
    mapped,
    number,
    passed_over,
    refused,
    warned,
)

_DEFAULT_PORT: Final = "8000"
_UNIX: Final = re.compile(r"unix:(//)?(?P<path>.*)", re.DOTALL)
# gunicorn gives a unix socket all permissions but those of its umask.
_ALL_PERMISSIONS: Final = 0o777
_NGINX: Final = (
    "gunicorn speaks HTTP there, and this server the uwsgi protocol. In Nginx, write include uwsgi_params; uwsgi_pass "
    "{}; in place of proxy_pass and its proxy_set_header lines; protocol = 'uwsgi' says that it is done."
)
_PROXY: Final = "Nginx takes the PROXY protocol: listen 80 proxy_protocol, set_real_ip_from, real_ip_header proxy_protocol."


def _bind(translation: Translation, row: Row, given: Given) -> None:
    del row
    if not given.value:
        translation.refuse(
            given, "gunicorn would listen nowhere: name an address, such as 127.0.0.1:8000."
        )
        return
    for one in given.value:
        if (variable := EXPANDED.search(one)) and not one.startswith("unix:"):
            translation.refuse(
                given,
                f"gunicorn does not start with it, since it replaces no variables: {variable[0]} stays as it is. In a file, write "
                f"{{os.environ['{variable[1] or variable[2]}']}} in an f-string.",
            )
            return
    if translation.has_inherited_sockets:
        translation.pass_over(given, "systemd has opened the sockets, and gunicorn takes those.")
        if translation.value("protocol") != "uwsgi":
            translation.warn(given, _NGINX.format("the socket of systemd's unit"))
        return
    addresses = tuple(_address(it, translation.reading.directory) for it in given.value)
    has_file = any(it.startswith("unix:") for it in addresses)
    if has_file and not translation.is_given("umask"):
        translation.map(given, bind=addresses, socket_mode=f"{_ALL_PERMISSIONS:04o}")
    else:
        translation.map(given, bind=addresses)
    if translation.value("protocol") == "uwsgi":
        return
    translation.warn(given, _NGINX.format(_upstream(addresses[0])))


def _address(text: str, directory: str) -> str:
    """Give an address in the form of ``--bind``; what gunicorn leaves open gets its default."""
    match = _UNIX.fullmatch(text)
    if match is not None:
        path = match["path"]
        return f"unix:{absolute(path, directory)}" if path else text
    if text.startswith("fd://"):
        return text
    text = text.removeprefix("tcp://")
    has_port = "]:" in text if "[" in text else ":" in text
    return text if has_port else f"{text}:{_DEFAULT_PORT}"


def _upstream(address: str) -> str:
    host, colon, port = address.rpartition(":")
    if address.startswith(("unix:", "fd:")) or not colon:
        return address
    return f"127.0.0.1:{port}" if host in {"", "0.0.0.0", "[::]"} else address  # noqa: S104 - it is compared


def _umask(translation: Translation, row: Row, given: Given) -> None:
    del row
    bind = translation.value("bind")
    if any(it.startswith("unix:") for it in bind):
        translation.map(given, socket_mode=f"{_ALL_PERMISSIONS & ~given.value:04o}")
    else:
        translation.pass_over(given, "gunicorn takes it for unix sockets alone, and there is none.")


def _protocol(translation: Translation, row: Row, given: Given) -> None:
    del row
    if given.value == "uwsgi":
        if not translation.is_given("uwsgi_allow_ips") and _is_open(translation):
            # gunicorn answers 403 to all others.
            translation.map(given, allow_from=tuple(translation.value("uwsgi_allow_ips")))
        else:
            translation.pass_over(
                given, "This server speaks uwsgi: Nginx's uwsgi_pass stays as it is."
            )
    elif given.value == "http":
        translation.pass_over(
            given, "It is gunicorn's default; see bind for what changes in Nginx."
        )
    else:
        translation.refuse(
            given, "This server speaks the uwsgi protocol alone: write uwsgi_pass in Nginx."
        )


def _is_open(translation: Translation) -> bool:
    """Whether an address is neither a unix socket nor of the loopback interface."""
    near = ("unix:", "fd://", "127.", "[::1]:", "localhost:")
    directory = translation.reading.directory
    return not all(_address(it, directory).startswith(near) for it in translation.value("bind"))


def _proxy_protocol(translation: Translation, row: Row, given: Given) -> None:
    del row
    if str(given.value).strip().lower() in {"off", "false", "0", "none", ""}:
        translation.pass_over(given, "It is off.")
    else:
        translation.warn(given, _PROXY)


def _allow(translation: Translation, row: Row, given: Given) -> None:
    del row
    named = tuple(given.value)
    if translation.value("protocol") != "uwsgi":
        translation.pass_over(given, "gunicorn looks at it with protocol = 'uwsgi' alone.")
        return
    if "*" in named:
        translation.pass_over(given, "Everybody may connect, as without --allow-from.")
        return
    for name in named:
        try:
            parse_network("uwsgi_allow_ips", name)
        except SettingsError as error:
            translation.refuse(given, f"{error}.")
            return
    if named:
        translation.map(given, allow_from=named)
    else:
        translation.refuse(
            given,
            "gunicorn would let nobody connect by TCP: name Nginx's address, or remove the line.",
        )


ROWS: Final = (
    *mapped("bind", "`--bind`, with a warning what to change in Nginx, unless protocol is uwsgi; a unix socket "
            "gets `--socket-mode` 0777, which is what gunicorn gives it", _bind),
    *mapped("umask", "`--socket-mode`: gunicorn takes it for unix sockets alone", _umask),
    *number("backlog", "backlog", least=1),
    *passed_over("reuse_port", "Workers share one socket, and the kernel spreads connections over them."),
    *mapped("protocol", "nothing for uwsgi and http, see bind; others are refused. With uwsgi, an open address and no uwsgi_allow_ips, "
            "`--allow-from` 127.0.0.1 and ::1, as gunicorn has it", _protocol),
    *mapped("uwsgi_allow_ips", "`--allow-from`, where `bind` has a TCP address; nothing for `*`", _allow),
    *mapped("proxy_protocol", "nothing where it is off, else a warning", _proxy_protocol),
    *passed_over("proxy_allow_ips", "It is about the PROXY protocol, which is Nginx's: set_real_ip_from."),
    *passed_over("forwarded_allow_ips",
                 "Nginx's uwsgi_params tell the scheme and the client's address; X-Forwarded-* headers are the application's."),
    *warned("secure_scheme_headers",
            "Nginx's uwsgi_params carry the scheme. Where a proxy before Nginx ends TLS, write uwsgi_param HTTPS in Nginx."),
    *passed_over("forwarder_headers", "Nginx tells SCRIPT_NAME and PATH_INFO by uwsgi_param."),
    *passed_over("header_map permit_obsolete_folding strip_header_spaces permit_unconventional_http_method "
                 "permit_unconventional_http_version casefold_http_method http_parser",
                 "Nginx reads the HTTP request."),
    *passed_over("limit_request_line limit_request_field_size",
                 "Nginx limits the lines of a request: large_client_header_buffers."),
    *passed_over("limit_request_fields", "Nginx limits the size of all headers, and --max-vars their number."),
    *passed_over("keepalive", "Nginx keeps connections with clients: keepalive_timeout."),
    *refused("certfile keyfile",
             "Nginx speaks TLS to clients: listen 443 ssl, ssl_certificate and ssl_certificate_key."),
    *passed_over("ssl_version cert_reqs ca_certs suppress_ragged_eofs do_handshake_on_connect ciphers ssl_context",
                 "Nginx speaks TLS to clients."),
    *passed_over("http_protocols http2_cleartext http2_max_concurrent_streams http2_initial_window_size "
                 "http2_max_frame_size http2_max_header_list_size", "Nginx speaks HTTP/2 to clients: http2 on."),
)  # fmt: skip
