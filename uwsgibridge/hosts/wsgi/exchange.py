"""Runs one WSGI request in a thread, and handles every way in which that can fail."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from uwsgibridge._version import __version__
from uwsgibridge.application.forked_child import exit_if_copy, exit_if_copy_raised
from uwsgibridge.connection.connection import Connection
from uwsgibridge.fast import accelerator
from uwsgibridge.hosts.exchange_states import FOLLOWING, Delivery, Life, Step, follow
from uwsgibridge.hosts.files import FileWrapper, OpenFile, regular_file
from uwsgibridge.hosts.offload import NamedFile, Offload
from uwsgibridge.hosts.streams import Ending
from uwsgibridge.hosts.wsgi.answer import ReaderStalled, WsgiAnswer
from uwsgibridge.hosts.wsgi.input import BodyStalled, open_input
from uwsgibridge.hosts.wsgi.refusals import OPTION, NoWebSockets
from uwsgibridge.protocol import answers
from uwsgibridge.protocol.answers import AnswerMaker, OwnAnswer
from uwsgibridge.protocol.errors import InvalidResponse
from uwsgibridge.protocol.handshake import HandshakeRefused, wants_websocket
from uwsgibridge.protocol.response_headers import remember_texts
from uwsgibridge.protocol.status import parse_status
from uwsgibridge.telemetry.causes import comes_from

if TYPE_CHECKING:
    from _typeshed import OptExcInfo


SERVER_SOFTWARE: Final = f"uwsgibridge/{__version__}"

# Module names for members of enums: to look a member up in its class costs more.
_STALLED: Final = Delivery.STALLED
_STATE_AFTER_END: Final = FOLLOWING[Step.END]

# Whose number of items is known. With one item, its length becomes the Content-Length (PEP 3333, "Handling the
# Content-Length Header").
_SEQUENCES: Final = (list, tuple)

# How long items may follow each other without a look whether the client is still there. If the client has left, the
# next write fails.
_LOOK_SECONDS: Final = 0.05


class _StreamEnds(Exception):
    """Ends the iteration over a stream, because the server stops."""


class WsgiExchange(WsgiAnswer):
    """Runs one request: makes the environ, calls the application, writes its answer."""

    _file_instead: NamedFile | None = None  # sent in place of the application's body
    # What the application has set for its line of the access log, by `uwsgibridge.uwsgi_module`.
    log_variables: MutableMapping[str, bytes] | None = None

    def run(self) -> None:
        """Call the application and write its answer; raise none of the application's exceptions."""
        self._context.begin(self.request)
        self.run_begun()

    def run_begun(self) -> None:
        """Do what is left of `run` where the accelerator has begun, but has not called the application."""
        try:
            self._call_application()
        except HandshakeRefused as error:
            self._answer(self._context.reporter.refused(self.request, error))
        except _StreamEnds:
            self._end(complete=False)
        except BaseException as error:  # noqa: BLE001 - SystemExit of an application ends its request only
            self._handle_failure(error)
        self.end_call()

    def go_on(
        self,
        iterable: Any,
        iterator: Iterator[Any] | None,
        pieces: tuple[Any, ...],
        sent_bytes: int,
        error: BaseException | None,
    ) -> None:
        """Do what is left of `run` where the accelerator has called the application, and leaves its answer to Python.

        Args:
            iterable: what the application has returned.
            iterator: what is left of it, where items were taken of it; else None.
            pieces: the item that was taken of it and comes next; or the only item, where its beginning was sent; or
                the file in its place.
            sent_bytes: how many bytes were sent of the head with this item; of a file, as `_send_file_behind` has it.
            error: what the iteration has raised.
        """
        try:
            self._answer_with(iterable, iterator, pieces, sent_bytes, error)
        except _StreamEnds:
            self._end(complete=False)
        except BaseException as failure:  # noqa: BLE001 - as in `run`
            self._handle_failure(failure)
        self.end_call()

    def fail(self, error: BaseException) -> None:
        """Do what is left of `run` where the application has raised as the accelerator has called it."""
        self._handle_failure(error)
        self.end_call()

    def end_call(self) -> None:
        """Do what is left of `run` when the connection is ended."""
        context = self._context
        if self.interruption is not None:
            self.interruption.hold_off()
        exit_if_copy()
        if self.connection.input_stalled:
            context.reporter.body_stalled(
                self.request, self._response, failure_status=self._failure_status
            )
        if self._delivery is _STALLED:
            context.reporter.reader_stalled(self.request)
        if context.errors.has_unfinished:
            context.errors.flush()
        self._return()

    def _release(self) -> None:
        """Leave that to who has called `run`, and writes the line of the access log before."""

    def log_access(self) -> None:
        """Write the request's line of the access log; called once, by who ends the request."""
        self._log_access(self._response, self.started_at)

    def log_sent(self, status: int, body_bytes: int) -> None:
        """Do the same for an answer that the accelerator has sent as a whole."""
        self._context.reporter.log_access(
            self.request,
            status=status,
            body_bytes=body_bytes,
            complete=True,
            accepted_at=self.connection.accepted_at,
            started_at=self.started_at,
            answered=self,
        )

    def give_up(self, make_answer: AnswerMaker) -> str:
        """Take the connection away from the thread, which goes on without it; from another thread.

        Args:
            make_answer: makes the answer that the client gets if none has begun.

        Returns:
            What the client sees, in words for the log.
        """
        context = self._context
        with self.end_lock:
            was_ended, self.given_up = self._ended, True
            connection: Connection | None = None
            if not was_ended:
                # OSError: the connection is hung up instead, which the client sees as well.
                with contextlib.suppress(OSError):
                    connection = self.connection.detach_peer()
        # This is read only now, when the thread can't write to the client any more.
        has_begun = self._response.is_head_sent or self._life is Life.REPLACED
        if was_ended:
            outcome = (
                "the answer was complete" if self._response.is_complete else "connection broken"
            )
        elif has_begun or connection is None:
            outcome = "connection broken"
            if connection is not None:
                self._hand_over(connection, complete=False)
        else:
            answer = context.reporter.with_id(self.request, make_answer(self.request.method))
            outcome = f"answered {answer.status}"
            with contextlib.suppress(OSError):  # the client is gone
                connection.send(answer.data)
                self._record_failure_answer(answer)
            self._hand_over(connection, complete=True)
        if not was_ended:
            is_answered = self._failure_status > 0
            self._record(
                context.recorders.shared, self._response, self.started_at, complete=is_answered
            )
        if context.logs_access:
            self.log_access()  # the thread may never get to it
        return outcome

    def end_interrupted(self) -> None:
        """End the exchange after an exception from outside has ended `run` at an unknown point."""
        with self.end_lock:
            was_ended = self._ended
            if not was_ended:
                self._life = follow(Step.END, self._life)
        if not was_ended:  # else the connection is given away, and may still be in use
            self._record_end(complete=False)
            with contextlib.suppress(OSError):
                self.connection.abort()
            self.connection.force_close()
        self._context.release(self.connection)

    def _handle_failure(self, error: BaseException) -> None:
        """Report what the application has raised, and answer its client accordingly."""
        exit_if_copy_raised(error)
        context = self._context
        is_stalled = self._delivery is _STALLED
        if self.given_up or (is_stalled and comes_from(error, ReaderStalled)):
            self._fail(answers.application_failed)
        elif self.connection.input_stalled and comes_from(error, BodyStalled):
            self._fail(answers.body_stalled)
        elif self.connection.peer_gone:
            # An exception that the client's leaving caused is not logged.
            context.reporter.client_gone()
            if self._response.is_head_sent and not self._ended:
                # Nginx leaves where the head does not fit its buffer.
                context.reporter.check_answer(self.request, self._response)
            context.reporter.ended_after_client(self.request, error)
            self._fail(answers.application_failed)
        else:
            response = self._response
            if response.is_full and not response.is_complete and self._delivery is Delivery.OPEN:
                response.finish()  # the client has the whole answer, whatever the application has raised
            context.reporter.application_failed(self.request, self._response, error)
            self._fail(answers.application_failed)

    def start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        /,
        exc_info: OptExcInfo | None = None,
    ) -> Callable[[bytes], None]:
        """Set the head of the answer (PEP 3333); it may be replaced until it is sent."""
        response = self._response
        if exc_info:
            try:
                if response.is_head_sent and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # the PEP advises this against a reference cycle
        elif response.status:
            raise InvalidResponse("start_response was called twice without exc_info")
        code, line = parse_status(status)
        encoded = _encode_headers(headers)
        id_header = self._context.reporter.id_header
        if id_header is not None:
            encoded = id_header.add_to(self.request, encoded)
        offload = self._context.offload
        if offload is None:
            response.start(code, line, encoded)
        else:
            self._start_offloaded(offload, code, line, encoded)
        if accelerator is not None:
            remember_texts(headers)
        return self._write_from_application

    def _start_offloaded(
        self, offload: Offload, code: int, line: bytes, headers: list[tuple[bytes, bytes]]
    ) -> None:
        file = offload.find(code, headers)
        self._response.start(code, line, headers if file is None else file.headers)
        self._file_instead = None
        if file is not None and file.is_sent_by_nginx:
            self._response.omit_body()
        else:
            self._file_instead = file

    def _call_application(self) -> None:
        if "HTTP_UPGRADE" in self.request.vars and wants_websocket(self.request.vars):
            raise NoWebSockets(
                f"this application is WSGI, which has no WebSockets without {OPTION}", option=OPTION
            )
        self._answer_with(self._context.app(self._environ(), self.start_response))

    def _answer_with(
        self,
        iterable: Any,
        iterator: Iterator[Any] | None = None,
        pieces: tuple[Any, ...] = (),
        sent_bytes: int = 0,
        error: BaseException | None = None,
    ) -> None:
        """Send what the application has returned, and close it; the arguments are those of `go_on`."""
        try:
            if error is not None:
                raise error
            if iterator is None and not pieces:
                self._send(iterable)
            else:
                self._send_rest(iterator, pieces, sent_bytes)
            # Before close(), where applications do long work after the answer.
            self._end(complete=True)
        finally:
            if (close := getattr(iterable, "close", None)) is not None:
                if self.interruption is not None:
                    self.interruption.go_on()
                close()

    def _environ(self) -> dict[str, Any]:
        base = self._context.base_environ
        environ: dict[str, Any] | None = None
        if accelerator is not None:
            environ = accelerator.environ(self.request.vars, base, SERVER_SOFTWARE)
        if environ is None:
            # A copy, so that the application may change it, and the request stays as it is.
            environ = self.request.vars | base
            environ["wsgi.url_scheme"] = self.request.scheme
            environ.setdefault("SERVER_SOFTWARE", SERVER_SOFTWARE)  # some frontends do not send it
        body = self.connection.pop_whole_body()
        environ["wsgi.input"] = self.open_input() if body is None else io.BytesIO(body)
        return environ

    def find_file(self, wrapper: FileWrapper) -> OpenFile | None:
        """Give the file of a wrapper, if the kernel can send it."""
        return regular_file(wrapper.filelike)

    def open_input(self) -> BinaryIO:
        """Make the input of a request whose body has not arrived completely."""
        return open_input(self.connection, self._wait_for_body)

    def _send(self, iterable: Any) -> None:
        response = self._response
        sends_body = self._file_instead is None  # else a file is sent in place of the body
        if (
            sends_body
            and type(iterable) in _SEQUENCES
            and len(iterable) == 1
            and iterable[0] is not None
        ):
            self._write(response.send(_checked(iterable[0]), last=True))
        elif isinstance(iterable, bytes):
            # bytes are an iterable of integers, strictly speaking; nginx's own test applications return them.
            self._context.reporter.bare_bytes()
            self._send([iterable])
            return
        elif iterable is None or isinstance(iterable, str):
            raise InvalidResponse(
                f"the application returned {iterable!r}, not an iterable of bytes"
            )
        elif (
            sends_body
            and type(iterable) is FileWrapper
            and (file := regular_file(iterable.filelike))
        ):
            self._send_file(file)
        else:
            self._send_items(iterable)
        self._context.reporter.check_answer(self.request, response)

    def _send_rest(
        self, iterator: Iterator[Any] | None, pieces: tuple[Any, ...], sent_bytes: int
    ) -> None:
        """Send what the accelerator has left of an answer.

        Args:
            iterator: goes on behind the pieces; None where there is no more.
            pieces: what comes next, or was begun: one piece at the most.
            sent_bytes: how many bytes of the piece were sent, or of the head with it, where the head was not sent
                completely. ``~n`` instead of n where the client took no more of it for too long.
        """
        response = self._response
        if iterator is None and isinstance(pieces[0], OpenFile):
            self._send_file_behind(pieces[0], sent_bytes)
        elif sent_bytes and response.is_head_sent:
            self._write_rest(pieces[0], sent_bytes)
            pieces = ()
            if iterator is None:
                self._write(response.finish())
        elif sent_bytes:
            self._write_behind(response.send(pieces[0], last=iterator is None), sent_bytes)
            pieces = ()
        if iterator is not None:
            self._send_items(chain(pieces, iterator))
        self._context.reporter.check_answer(self.request, response)

    def _send_items(self, items: Iterable[Any]) -> None:
        response = self._response
        streams, now = self._context.streams, monotonic()
        for chunk in items:
            if chunk is None:
                # uWSGI passes over None, so that there are applications that yield it.
                self._context.reporter.none_item()
            # An empty item does not send the head, which may still be replaced (the PEP,
            # "Handling the start_response callable").
            if chunk is None or not _checked(chunk):
                self._look_for_client()  # no write would notice that it has left
            elif self._file_instead is not None:
                break
            else:
                last, now = now, monotonic()
                if now - last >= _LOOK_SECONDS:
                    self._look_for_client()
                is_full = response.is_full
                self._write(response.send(chunk))
                if is_full:
                    break  # further items are not sent (the PEP, "Handling the Content-Length Header")
            if streams.ending is not Ending.NONE and streams.means(response):
                if not response.is_head_sent:
                    self._write(response.send(b""))  # see `HttpExchange.end_if_meant`
                raise _StreamEnds
        if self._file_instead is not None:
            self._send_file_instead(self._file_instead)
        else:
            self._write(response.finish())

    def _write_from_application(self, data: bytes) -> None:
        """Write what an application gives to the `write` callable, which the PEP keeps for old frameworks."""
        if self._file_instead is not None:
            return
        response = self._response
        if _checked(data) and response.is_full and response.excess_bytes:
            raise InvalidResponse("write() goes on behind the end of the body, its Content-Length")
        if not data:
            self._look_for_client()
        self._write(response.send(data))

    def _end(self, *, complete: bool) -> None:
        if self.interruption is not None:
            self.interruption.hold_off()  # at least until `close()` is called
        with self.end_lock:
            if self._life not in _STATE_AFTER_END:
                return
            self._life = _STATE_AFTER_END[self._life]
            is_given_up = self.given_up
        if is_given_up:  # who has given it up records it
            self.connection.force_close()  # the connection leads nowhere any more
            return
        if complete:
            if not self._response.ends_here:
                self._mark(self.recorder, self._failure_status or self._response.status)
            # What `_hand_over` does, with one call less.
            self._context.lingering.close(self.connection)
        else:
            self._hand_over(self.connection, complete=False)
        self._record_end(complete=complete)

    def _record_end(self, *, complete: bool) -> None:
        self._record(self.recorder, self._response, self.started_at, complete=complete)

    def _fail(self, make_answer: AnswerMaker) -> None:
        """Answer with a failure where that is still possible; else break the connection."""
        if self._ended:
            return
        if self._response.is_head_sent or self.connection.peer_gone or self.given_up:
            self._end(complete=self._response.is_complete and self._delivery is Delivery.OPEN)
        else:
            self._answer(make_answer(self.request.method))

    def _answer(self, answer: OwnAnswer) -> None:
        """Answer in the application's place."""
        answer = self._context.reporter.with_id(self.request, answer)
        self._life = follow(Step.REPLACE, self._life)
        answered = False
        self._expect_whole(self.recorder, answer.status)
        with contextlib.suppress(OSError):  # the client is gone, or does not read
            self._write((answer.data,))
            answered = True
            self._record_failure_answer(answer)
        self._end(complete=answered)


def _checked(chunk: bytes) -> bytes:
    if not isinstance(chunk, bytes):
        raise InvalidResponse(f"the body has an item of type {type(chunk).__name__}, not bytes")
    return chunk


def _encode_headers(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    if accelerator is not None and (plain := accelerator.encode_pairs(headers)) is not None:
        return plain
    if not isinstance(headers, list):
        raise InvalidResponse(f"the headers are a {type(headers).__name__}, not a list")
    try:
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    except (AttributeError, TypeError, ValueError):
        for item in headers:
            if not (
                isinstance(item, tuple) and len(item) == 2 and all(type(x) is str for x in item)
            ):
                raise InvalidResponse(f"{item!r} is not a header: a pair of str") from None
        raise InvalidResponse("a header has characters beyond latin-1") from None
