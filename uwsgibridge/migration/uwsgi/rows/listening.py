"""Rows of what uWSGI listens on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from uwsgibridge.migration.nginx_block import SUGGESTED_BIND
from uwsgibridge.migration.plan import Setting, Verdict
from uwsgibridge.migration.uwsgi import meaning
from uwsgibridge.migration.uwsgi.command_line import COMMAND_LINE
from uwsgibridge.migration.uwsgi.translation import (
    Row,
    Translation,
    count,
    last_of,
    last_text,
    mapped,
    passed_over,
    refused,
    text_of,
    warned,
)

# uWSGI wants exactly three digits, and ends its start for any other value.
_MODE: Final = re.compile(r"[0-7]{3}")
_MODE_DIGITS: Final = 3
_MODE_WITHOUT_VALUE: Final = "666"
_ALL_PERMISSIONS: Final = 0o777
_OTHERS_WRITE: Final = 0o002
_SOCKETS: Final = ("socket", "uwsgi-socket", "s")
_LARGEST_BUFFER: Final = 65_535

_NO_HTTP: Final = "Nothing here speaks HTTP but Nginx, which asks this server by uwsgi_pass; --explain prints the server block."
_BESIDE_SOCKET: Final = "There is a socket line as well: --ignore {group} goes on with that alone."
_IN_PLACE_OF_HTTP: Final = f"Write socket = {SUGGESTED_BIND} in its place."


def _bind(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        try:
            bind = meaning.address(text_of(setting), translation.directory)
        except meaning.MeaninglessError as error:
            translation.refuse(setting, f"{error}.", row.group)
            continue
        if meaning.has_comment(setting.value):
            translation.warn(
                setting, f"uWSGI has no comments behind values; the address is {bind}.", row.group
            )
        if bind in translation.plan.values.get("bind", ()) and not bind.endswith(":0"):
            translation.pass_over(setting, "An earlier line has the same address.", row.group)
        else:
            translation.map(setting, row.group, bind=(bind,))


def _http(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    has_socket = translation.last(*_SOCKETS) is not None
    remedy = _BESIDE_SOCKET.format(group=row.group) if has_socket else _IN_PLACE_OF_HTTP
    for setting in settings:
        translation.plan.http.append(text_of(setting))
        translation.refuse(setting, f"{_NO_HTTP} {remedy}", row.group)


def _protocol(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        if text_of(setting) == "uwsgi":
            translation.pass_over(setting, "It is the only protocol here.", row.group)
            continue
        if text_of(setting).startswith("http"):
            translation.plan.http += [
                text_of(it) for it in translation.settings if it.name in {"socket", "s"}
            ]
        translation.refuse(
            setting,
            "This server speaks the uwsgi protocol alone; let Nginx ask it by uwsgi_pass, and leave the line out.",
            row.group,
        )


def _mode(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    last = last_of(translation, row, settings)
    # uWSGI reads the value 1 as none, and an empty one, which a bare name has in a file, as a wrong one.
    if last.value == "1" or (last.value is None and last.place == COMMAND_LINE):
        translation.map(last, row.group, socket_mode=_MODE_WITHOUT_VALUE)
    elif last.value is None or not _MODE.fullmatch(last.value):
        translation.refuse(
            last,
            "It takes three octal digits and nothing else, such as 660; uWSGI does not start with this.",
            row.group,
        )
    else:
        translation.map(last, row.group, socket_mode=last.value)


def _umask(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    """Translate octal digits as `uwsgi_mode_t` in core/utils.c reads them: three, or the second to the fourth one."""
    last = last_of(translation, row, settings)
    text = text_of(last)
    digits = text if len(text) == _MODE_DIGITS else text[1 : _MODE_DIGITS + 1]
    if len(text) < _MODE_DIGITS:
        translation.warn(
            last,
            f"It takes three octal digits: uWSGI reads {text!r} as 000, and so it is read here.",
            row.group,
        )
        translation.map(last, row.group, umask="000")
    elif not _MODE.fullmatch(digits):
        translation.refuse(last, "It takes three octal digits, such as 022.", row.group)
    else:
        translation.map(last, row.group, umask=digits)


def fill_socket_mode(translation: Translation) -> None:
    """Have other users connect where uWSGI lets them: without chmod-socket, the umask says the mode of unix sockets.

    A usual umask lets nobody else connect, and neither does the default here. With daemonize, uWSGI clears the umask.
    """
    values = translation.plan.values
    has_file = any(it.startswith("unix:") for it in values.get("bind", ()))
    origin = translation.last("umask") or translation.last("daemonize", "d")
    if not has_file or "socket_mode" in values or origin is None:
        return
    umask = int(values.get("umask", "000"), 8)
    if not umask & _OTHERS_WRITE:
        translation.map(origin, origin.name, socket_mode=f"{_ALL_PERMISSIONS & ~umask:03o}")


def _buffer(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    for setting in settings:
        size = translation.number_of(setting, row.group)
        if size > _LARGEST_BUFFER:
            translation.pass_over(
                setting,
                "It is 65,535 bytes here, the most that the protocol holds, as in uWSGI.",
                row.group,
            )
        else:
            translation.pass_over(
                setting,
                "Memory is taken as it is needed; a request may have the 65,535 bytes that the protocol holds.",
                row.group,
            )


def _suwsgi(translation: Translation, row: Row, settings: Sequence[Setting]) -> None:
    """Translate ``ADDRESS,CERTIFICATE,KEY[,CIPHERS[,CLIENT_CA]]`` (`uwsgi_opt_add_ssl_socket` in core/socket.c)."""
    for setting in settings:
        address, *rest = text_of(setting).split(",", 4)
        certificate, key, ciphers, client_ca = [*rest, "", "", "", ""][:4]
        if not (certificate and key):
            translation.refuse(
                setting, "uWSGI wants ADDRESS,CERTIFICATE,KEY, and does not start.", row.group
            )
            continue
        if translation.last(*_SOCKETS) is not None:
            translation.refuse(
                setting,
                "All sockets speak TLS here, or none does: leave the socket lines out, or this one.",
                row.group,
            )
            continue
        # An exclamation mark has uWSGI refuse clients without a certificate.
        authority = client_ca.removeprefix("!")
        values = {"bind_tls_certificate": (certificate,), "bind_tls_key": (key,)}
        before = translation.plan.values
        if any(before.get(name, value) != value for name, value in values.items()) or (
            "bind_tls_certificate" in before and before.get("bind_tls_client_ca", "") != authority
        ):
            translation.refuse(
                setting, "All sockets have the same certificate and client CA here.", row.group
            )
            continue
        try:
            bind = meaning.address(address, translation.directory)
        except meaning.MeaninglessError as error:
            translation.refuse(setting, f"{error}.", row.group)
            continue
        more = {"bind_tls_client_ca": authority} if authority else {}
        if "bind_tls_certificate" in before:
            values = {}
        translation.map(setting, row.group, bind=(bind,), **values, **more)
        if ciphers:
            translation.warn(
                setting, "Ciphers are those of OpenSSL's configuration, from TLS 1.2 on.", row.group
            )
        if client_ca and not client_ca.startswith("!"):
            translation.warn(
                setting,
                "uWSGI serves clients without a certificate as well; here each client needs one.",
                row.group,
            )


ROWS: Final = (
    mapped("socket uwsgi-socket s", "`--bind`; a path is `unix:PATH`", _bind),
    mapped("chmod-socket chmod C", "`--socket-mode`; without a value 0666, without it 0660, not 0755", _mode),
    last_text("chown-socket", "socket_owner"),
    count("listen l", "backlog"),
    mapped("umask", "`--umask`, and without chmod-socket `--socket-mode` where others may connect", _umask),
    count("limit-post", "max_body_bytes"),
    count("socket-timeout z", "write_timeout_seconds", "body_timeout_seconds"),
    mapped("buffer-size b", "nothing: 65,535 bytes, the most that the protocol holds", _buffer),
    mapped("protocol socket-protocol", "nothing for `uwsgi`, else refused", _protocol),
    *(
        Row(names=tuple(names.split()), verdict=Verdict.REFUSED, text="Nginx speaks HTTP, and asks this server by `uwsgi_pass`; --explain prints the server block.", translate=_http)
        for names in ("http httprouter h", "http-socket", "http-socket-modifier1", "http11-socket", "https",
                      "https2", "https-socket", "http-to-https")
    ),
    mapped(
        "suwsgi-socket ssl-socket",
        "`--bind`, `--bind-tls-certificate`, `--bind-tls-key` and `--bind-tls-client-ca`; refused beside sockets without TLS or with "
        "other certificates",
        _suwsgi,
    ),
    refused(
        "fastcgi-socket fastcgi-nph-socket scgi-socket scgi-nph-socket raw-socket puwsgi-socket",
        "This server speaks the uwsgi protocol alone; let Nginx ask it by uwsgi_pass.",
    ),
    refused("zeromq zmq zeromq-socket zmq-socket", "There is no ZeroMQ here; let Nginx ask by uwsgi_pass."),
    passed_over("reuse-port", "All workers share one listening socket."),
    passed_over(
        "so-keepalive so-send-timeout tcp-nodelay tcp-fast-open tcp-fast-open-client tcp-fastopen tcp-fastopen-client no-defer-accept freebind socket-sndbuf socket-rcvbuf socket-send-timeout socket-write-timeout so-write-timeout",
        "The system's default is right for a socket that Nginx connects to.",
    ),
    passed_over(
        "post-buffering post-buffering-bufsize body-read-warning",
        "A body stays with the kernel until the application reads it; Nginx has buffered it before.",
    ),
    warned(
        "abstract-socket",
        "Sockets are files here, with an owner and permissions.",
        is_flag=True,
    ),
)  # fmt: skip
