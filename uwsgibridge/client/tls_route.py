"""The way to a server inside of TLS: the context, the handshake, and what its errors mean.

The defaults are Nginx's for ``suwsgi://`` (`ngx_http_uwsgi_set_ssl`): nothing is verified unless there is an authority.
As Nginx does, the client takes an end of the connection without close_notify for the end of the answer: uWSGI ends each
one so. The bridge has an answer that is cut end with a record that can't be decrypted.
"""

from __future__ import annotations

import os
import selectors
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uwsgibridge.client.dialing import Deadline, Target
from uwsgibridge.client.errors import ClientError, RequestError, describe
from uwsgibridge.client.route import Route
from uwsgibridge.client.tls import Tls
from uwsgibridge.client.transport import Transport
from uwsgibridge.config.address import TcpAddress

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Alerts about the client's certificate (RFC 8446, section 6.2), as OpenSSL calls them. In TLS 1.3 they arrive after the
# handshake is over for the client.
_ASKS_FOR_CERTIFICATE: Final = frozenset({"TLSV13_ALERT_CERTIFICATE_REQUIRED"})
_REFUSES_CERTIFICATE: Final = frozenset(
    {
        "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED", "SSLV3_ALERT_CERTIFICATE_UNKNOWN", "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV1_ALERT_ACCESS_DENIED",
    }
)  # fmt: skip

# What OpenSSL, the newer ones in other words, says of records that are none.
_NO_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
)

# Codes of `X509_verify_cert_error_string` for a certificate of another host name or address.
_OF_ANOTHER_NAME: Final = frozenset({62, 64})


class TlsRoute(Route):
    """The way to a server that speaks suwsgi.

    Raises:
        ValueError: a file can't be read or has something else, or there is no name to verify.
    """

    hint = ""

    def __init__(self, target: Target, tls: Tls) -> None:
        super().__init__(target)
        self._tls = tls
        self._context = _make_context(tls)
        self._name = tls.name or (target.host if isinstance(target, TcpAddress) else None)
        if tls.ca is not None and self._name is None:
            raise ValueError(
                f"{target} has no host name that a certificate could have: "
                "beside --tls-ca, give --tls-name with the name to verify"
            )
        try:  # a name that can't be sent is an error before anything is
            self._context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=self._name)
        except ValueError as error:
            raise ValueError(
                f"{self._name!r} is no host name: give another --tls-name ({error})"
            ) from error

    def connect(self, deadline: Deadline, failure: type[ClientError]) -> socket.socket:
        connection = super().connect(deadline, failure)
        try:
            connection.settimeout(deadline.remaining_seconds())
            connection = self._context.wrap_socket(
                connection, do_handshake_on_connect=False, server_hostname=self._name
            )
            connection.do_handshake()
        except TimeoutError as error:
            connection.close()
            raise failure(
                f"{self} took the connection and gave no answer to TLS within {deadline.seconds:g} s: "
                "the server there is stuck, or it does not speak TLS"
            ) from error
        except OSError as error:
            connection.close()
            raise failure(self.explain_error(error) or self._why_no_handshake(error)) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def transport(self, connection: socket.socket) -> Transport:
        assert isinstance(connection, ssl.SSLSocket)
        return _TlsTransport(connection, self)

    def explain_error(self, error: OSError) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._why_not_verified(error)
        reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
        said = _words(reason)
        if self._tls.certificate is None:
            if reason in _ASKS_FOR_CERTIFICATE | _REFUSES_CERTIFICATE:
                return (
                    f"{self} asks for a client's certificate ({said}): "
                    "give --tls-certificate and --tls-key"
                )
        elif reason in _REFUSES_CERTIFICATE:
            return (
                f"{self} does not accept the client's certificate --tls-certificate {self._tls.certificate} ({said}): "
                "an authority in the server's --bind-tls-client-ca has to have signed it"
            )
        return ""

    def explain_answer(self, answer: bytes) -> str:
        del answer  # it was decrypted
        return ""

    def _why_not_verified(self, error: ssl.SSLCertVerificationError) -> str:
        if error.verify_code in _OF_ANOTHER_NAME:
            return (
                f"The certificate of {self} is not for {self._name!r}: "
                "give --tls-name with a name that the certificate has"
            )
        return (
            f"The certificate of {self} is not verified by --tls-ca {self._tls.ca} ({error.verify_message}): "
            "give the file of the authority that has signed it"
        )

    def _why_no_handshake(self, error: OSError) -> str:
        reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
        if reason == "SSLV3_ALERT_HANDSHAKE_FAILURE" and self._tls.certificate is None:
            # TLS 1.2 has no other word for a missing certificate.
            return (
                f"{self} refused the TLS handshake ({_words(reason)}): "
                "where it asks for a client's certificate, give --tls-certificate and --tls-key"
            )
        if "ALERT" in reason:
            return f"{self} refused the TLS handshake ({_words(reason)}); its log says why"
        if reason in _NO_TLS:
            return (
                f"{self} answered with something else than TLS: "
                "leave --tls and the options that begin with it out, or name another address"
            )
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            return f"There is no TLS with {self} ({_words(reason) or describe(error)})"
        return (
            f"{self} closed the connection where TLS begins; where it speaks none (it was started without "
            "--bind-tls-certificate), leave --tls and the options that begin with it out; its log says more"
        )


class _TlsTransport(Transport):
    """A connection inside of TLS.

    OpenSSL may have to send before it can receive, and to receive before it can send.
    """

    connection: ssl.SSLSocket

    def __init__(self, connection: ssl.SSLSocket, route: TlsRoute) -> None:
        super().__init__(connection)
        self._route = route

    def has_received(self) -> bool:
        return self.connection.pending() > 0

    def receive_into(self, buffer: WriteableBuffer) -> int | None:
        try:
            received_bytes = self.connection.recv_into(buffer)
        except ssl.SSLWantReadError:
            self.receives_on = selectors.EVENT_READ
            return None
        except ssl.SSLWantWriteError:
            self.receives_on = selectors.EVENT_WRITE
            return None
        except ssl.SSLError as error:
            if words := self._route.explain_error(error):
                raise RequestError(words) from error
            raise
        self.receives_on = selectors.EVENT_READ
        return received_bytes

    def send(self, data: memoryview) -> int | None:
        try:
            sent_bytes = self.connection.send(data)
        except ssl.SSLWantReadError:
            self.sends_on = selectors.EVENT_READ
            return None
        except ssl.SSLWantWriteError:
            self.sends_on = selectors.EVENT_WRITE
            return None
        except ssl.SSLError as error:  # the server has ended TLS
            raise BrokenPipeError from error
        self.sends_on = selectors.EVENT_WRITE
        return sent_bytes


class _NeedsPasswordError(Exception):
    pass


def _no_password() -> str:
    raise _NeedsPasswordError


def _make_context(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        try:
            context.load_verify_locations(cafile=tls.ca)
        except ssl.SSLError as error:
            raise ValueError(f"--tls-ca {tls.ca}: there is no certificate in PEM") from error
        except OSError as error:
            raise ValueError(f"--tls-ca {tls.ca}: {describe(error)}") from error
    if tls.certificate is not None:
        _load_pair(context, tls.certificate, tls.key)
    return context


def _load_pair(
    context: ssl.SSLContext, certificate: str | os.PathLike[str], key: str | os.PathLike[str] | None
) -> None:
    named = f"--tls-certificate {certificate}"
    if key is not None:
        named += f" with --tls-key {key}"
    try:
        # OpenSSL does not say which of the files it could not read.
        for option, path in (("--tls-certificate", certificate), ("--tls-key", key)):
            if path is not None:
                try:
                    Path(path).open("rb").close()
                except OSError as error:
                    raise ValueError(f"{option} {path}: {describe(error)}") from error
        context.load_cert_chain(certificate, key, password=_no_password)
    except _NeedsPasswordError:
        raise ValueError(f"{named}: the key has a password: write it without") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"{named}: the key is not the certificate's") from error
        raise ValueError(f"{named}: there is no certificate and key in PEM") from error


def _words(reason: str) -> str:
    return reason.lower().replace("_", " ")
