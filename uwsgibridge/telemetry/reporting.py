"""Reports on requests, above all on failures: log events, counters and the access log."""

from __future__ import annotations

from time import monotonic
from types import TracebackType
from typing import Final

from trio.lowlevel import in_trio_task

from uwsgibridge.protocol import answers
from uwsgibridge.protocol.answers import OwnAnswer
from uwsgibridge.protocol.errors import InvalidResponse, ProtocolError
from uwsgibridge.protocol.request import Request
from uwsgibridge.protocol.response import Response
from uwsgibridge.telemetry.access import Access, AccessSink, Answered, SentWriter
from uwsgibridge.telemetry.causes import WITHOUT_TRIO, is_due_to_disconnect, lacks_asyncio
from uwsgibridge.telemetry.counters import Counters
from uwsgibridge.telemetry.logs import Logger
from uwsgibridge.telemetry.request_ids import IdHeader, fields_of
from uwsgibridge.telemetry.stacks import own_traceback, place_of
from uwsgibridge.telemetry.tracing import trace_of

# How much of an exception's message `detail` has; the traceback has all of it.
_MESSAGE_CHARACTERS: Final = 500

# In the place of an answer that nobody waits for.
_NOTHING: Final = OwnAnswer(0, b"", 0)

# Modules that check the rules of WSGI and ASGI.
_RULES: Final = ("uwsgibridge.hosts.", "uwsgibridge.protocol.")


class Reporter:
    """Reports requests to the log, the counters and the access log.

    Each host has a reporter. The listener has one for requests that no host gets.

    Args:
        app_name: the application's name in the log; None for the listener's reporter.
        logger: where log events go.
        counters: the worker's.
        frontend_buffer_bytes: a head that is larger makes Nginx answer 502.
        access_log: records each request; None for no access log.
        id_header: has the request's id in each answer; None for no such header.
    """

    def __init__(
        self,
        app_name: str | None,
        logger: Logger,
        counters: Counters,
        frontend_buffer_bytes: int,
        access_log: AccessSink | None = None,
        id_header: IdHeader | None = None,
    ) -> None:
        self.log = logger if app_name is None else logger.bind(app=app_name)
        self.counters = counters
        self.frontend_buffer_bytes = frontend_buffer_bytes
        self.logs_access = access_log is not None
        self._access_log = access_log
        self.sent_writer: SentWriter | None = getattr(access_log, "sent_writer", None)
        self.id_header = id_header
        # Each with who has logged it, so that of several threads one alone does.
        self._warnings: dict[str, object] = {}

    def application_failed(
        self,
        request: Request,
        response: Response,
        error: BaseException,
        *,
        is_cut: bool = False,
    ) -> None:
        """Log that the application failed, once, with its traceback but none of the bridge's frames.

        Args:
            request: what was asked.
            response: tells what the client has seen of the answer.
            error: what the application raised, or the rule that it broke.
            is_cut: whether a part of the answer was given and could not be written.
        """
        self.counters.count_app_error()
        if response.is_complete and not is_cut:
            outcome = "the answer was complete"
        else:
            outcome = "connection broken" if response.is_head_sent else "answered 500"
        self._failed(request, error, outcome)

    def websocket_failed(self, request: Request, error: BaseException, *, outcome: str) -> None:
        """Log that the application failed in a WebSocket, as `application_failed` does."""
        self.counters.count_app_error()
        self._failed(request, error, outcome)

    def refused(self, request: Request | None, error: ProtocolError) -> OwnAnswer:
        """Log and count what was refused before an application saw it, and give the answer.

        Args:
            request: what was asked; None where what arrived is no request.
            error: why it was refused.
        """
        self.counters.count_refusal(error.reason)
        self.log.warning(
            "refused",
            **(_about(request) if request else {}),
            reason=error.reason,
            detail=str(error),
            status=error.status,
            **({"option": error.option} if error.option else {}),
        )
        return answers.refused(error, request.method if request else error.method)

    @property
    def id_header_name(self) -> bytes | None:
        """The name of the header with the request's id, as an answer has it; None for no such header."""
        return None if self.id_header is None else self.id_header.name

    def with_id(self, request: Request, answer: OwnAnswer) -> OwnAnswer:
        """Give an answer of the bridge with the header for the request's id, if there is one."""
        return answer if self.id_header is None else self.id_header.add_to_own(request, answer)

    def not_mounted(self, request: Request) -> OwnAnswer:
        """Count a request to a path without an application, and give the answer."""
        self.counters.count_refusal("not_mounted")
        return answers.not_mounted(request.method)

    def not_run(self, request: Request) -> OwnAnswer:
        """Count a request that no thread or task is left to run, and give the answer."""
        self.counters.count_refusal("stopping")
        return answers.stopping(request.method)

    def abandoned(self, request: Request, *, accepted_at: float) -> None:
        """Count a request that was not run, because its client had left before its turn; this is no error.

        Args:
            request: what was asked.
            accepted_at: when the connection was accepted, of `time.monotonic()`.
        """
        self.counters.count_client_gone()
        self.counters.count_refusal("abandoned")
        self.answered(request, _NOTHING, accepted_at=accepted_at, is_sent=False)

    def packet_stalled(self) -> None:
        """Log that a connection has sent no whole packet in time; its peer would understand no answer."""
        self.counters.count_refusal("packet_timeout")
        self.log.warning(
            "refused: no whole packet arrived in time",
            option="--packet-timeout-seconds",
        )

    def answered(
        self, request: Request, answer: OwnAnswer, *, accepted_at: float, is_sent: bool
    ) -> None:
        """Write a request that no application saw to the access log, if there is one.

        Args:
            request: what was asked.
            answer: what was sent, as a method of this class gave it.
            accepted_at: when the connection was accepted, of `time.monotonic()`.
            is_sent: whether the peer took the answer.
        """
        if self._access_log is not None:
            self._access_log.write(
                Access(
                    request=request,
                    status=answer.status if is_sent else 0,
                    body_bytes=answer.body_bytes if is_sent else 0,
                    complete=is_sent,
                    queue_seconds=monotonic() - accepted_at,
                    application_seconds=0.0,
                    answered=answer if is_sent else None,
                )
            )

    def client_gone(self) -> None:
        """Count a client that left; this is no error, and no log event."""
        self.counters.count_client_gone()

    def request_lost(self, request: Request, *, stack: str) -> None:
        """Log that the task of a request goes on, although it was cancelled."""
        self.log.error(
            "request goes on although its task was cancelled",
            **_about(request),
            stack=stack,
            hint="the application swallows the cancellation, or shields itself from it",
        )

    def lost_request_ended(self, request: Request) -> None:
        """Log that a request has ended which `request_lost` had reported."""
        self.log.info("request has ended after all", **_about(request))

    def ended_after_deadline(self, request: Request, error: BaseException) -> None:
        """Log what an application raised after its request was ended at its deadline."""
        self._failed_late("application failed after its deadline", request, error)

    def ended_after_client(self, request: Request, error: BaseException) -> None:
        """Log what an application raised after its client had left.

        An exception that the client's leaving caused is not logged; any other one is logged in one line.
        """
        self._failed_late("application failed after its client had gone", request, error)

    def _failed_late(self, event: str, request: Request, error: BaseException) -> None:
        if is_due_to_disconnect(error):
            return
        self.log.warning(
            event,
            **_about(request),
            detail=describe_error(error),
            where=place_of(error),
        )

    def body_stalled(self, request: Request, response: Response, *, failure_status: int) -> None:
        """Log, when the request is over, that its body stopped arriving.

        Args:
            request: what was asked.
            response: of the application, which may have answered in its own way.
            failure_status: of the answer that was sent in the application's place; 0 where none was.
        """
        if failure_status:
            outcome = f"answered {failure_status}"
        elif response.is_complete:
            outcome = f"the application answered {response.status}"
        else:
            outcome = "connection broken"
        # nginx's ngx_http_upstream_send_request_handler
        hint = (
            {
                "hint": "Nginx sends no more of a body once it has the head of the answer: read the body first"
            }
            if response.is_head_sent and not response.is_complete
            else {}
        )
        self.counters.count_refusal("body_timeout")
        self.log.warning(
            "request body did not arrive in time",
            **_about(request),
            option="--body-timeout-seconds",
            outcome=outcome,
            **hint,
        )

    def reader_stalled(self, request: Request) -> None:
        """Log that Nginx stopped taking the answer."""
        self.counters.count_refusal("write_timeout")
        self.log.warning(
            "answer was not taken in time",
            **_about(request),
            option="--write-timeout-seconds",
            outcome="connection broken",
        )

    def websocket_unheard(self, request: Request) -> None:
        """Count a WebSocket through which nothing ever came; log once what that may mean."""
        self.counters.count_refusal("websocket_unheard")
        self._warn_once(
            "a WebSocket's client was never heard of after its handshake",
            path=request.path,
            frontend=request.vars.get("SERVER_SOFTWARE") or "unknown: it sends no SERVER_SOFTWARE",
            option="--websocket-first-sign-seconds",
            hint="its client may be gone; or something between hands the answer 101 on as an ordinary one, "
            "as Apache's mod_proxy_uwsgi and lighttpd's mod_scgi do: let Nginx pass WebSockets to the bridge",
        )

    def request_overdue(
        self,
        request: Request,
        *,
        seconds: float,
        thread: str,
        stack: str,
        outcome: str,
        waits_to_write: bool,
    ) -> None:
        """Log that a request took too long, where its thread or task is, and what its client sees.

        Args:
            request: what was asked.
            seconds: how long the application has taken.
            thread: what runs it.
            stack: where that is.
            outcome: what the client sees.
            waits_to_write: whether it waits for its client to take the answer.
        """
        self.counters.count_refusal("request_timeout")
        hint = (
            {
                "hint": "the client takes the answer slowly, and that counts: leave files to Nginx (--offload), "
                "or have Nginx take the answer (uwsgi_buffering, uwsgi_max_temp_file_size)"
            }
            if waits_to_write
            else {}
        )
        self.log.error(
            "request took too long",
            **_about(request),
            seconds=round(seconds, 3),
            option="--request-timeout-seconds",
            outcome=outcome,
            thread=thread,
            stack=stack,
            **hint,
        )

    def thread_freed(self, request: Request, *, seconds: float, thread: str) -> None:
        """Log that a thread came back from a request that was given up, and how long that took."""
        self.log.info(
            "thread is free again", **_about(request), seconds=round(seconds, 3), thread=thread
        )

    def keeps_receiving(self, request: Request, *, times: int) -> None:
        """Log that an application only calls `receive`, again and again, after the disconnect."""
        self.counters.count_app_error()
        self.log.error(
            "application keeps calling receive after the disconnect: its task is cancelled",
            **_about(request),
            times=times,
            hint="end at a message of type http.disconnect or websocket.disconnect",
        )

    def thread_interrupted(self, error: BaseException) -> None:
        """Log that an exception was raised in a thread from outside, while the thread ran the bridge's code."""
        self.counters.count_app_error()
        self.log.error(
            "exception was raised in a thread from outside",
            detail=describe_error(error),
            hint="something in the application raises exceptions in other threads, such as a timeout",
        )

    def bare_bytes(self) -> None:
        """Log once that the application returns bytes instead of a list of bytes."""
        self._warn_once(
            "application returned bytes, which WSGI takes for an iterable of integers",
            hint="return [body]",
        )

    def none_item(self) -> None:
        """Log once that the application yields None, which is passed over."""
        self._warn_once(
            "application yielded None, which WSGI does not know: it is passed over",
            hint="yield b''",
        )

    def unfinished_answer(self) -> None:
        """Log once that the ASGI application does not end its answers that have no body."""
        self._warn_once(
            "application returned without an http.response.body: its answer ends with its head",
            hint="send an http.response.body without more_body",
        )

    def returned_value(self, value: object) -> None:
        """Log once that the ASGI application returns a value, which nobody uses."""
        self._warn_once(
            "application returned a value, which ASGI takes no notice of",
            returned=type(value).__name__,
            hint="await send(...) the answer, and return nothing",
        )

    def log_access(
        self,
        request: Request,
        *,
        status: int,
        body_bytes: int,
        complete: bool,
        accepted_at: float,
        started_at: float,
        answered: Answered | None = None,
    ) -> None:
        """Write a request that is over to the access log, if there is one.

        Args:
            request: what was asked.
            status: of the answer; 0 where none was sent.
            body_bytes: bytes of the answer's body that were sent.
            complete: whether the whole answer was sent.
            accepted_at: when the connection was accepted, of `time.monotonic()`.
            started_at: when the application was called.
            answered: has the head of the answer.
        """
        if self._access_log is not None:
            self._access_log.write(
                Access(
                    request=request,
                    status=status,
                    body_bytes=body_bytes,
                    complete=complete,
                    queue_seconds=started_at - accepted_at,
                    application_seconds=monotonic() - started_at,
                    answered=answered,
                )
            )

    def check_answer(self, request: Request, response: Response) -> None:
        """Log what is wrong with an answer that was sent."""
        if response.head_bytes > self.frontend_buffer_bytes:
            head_bytes, name, header_bytes = response.largest_header()
            self.log.warning(
                "head of the answer is larger than Nginx's buffer: it answers 502",
                **_about(request),
                head_bytes=head_bytes,
                largest_header=name,
                largest_header_bytes=header_bytes,
                option="uwsgi_buffer_size in Nginx, then --frontend-buffer-bytes",
            )
        if response.excess_bytes:
            self.log.warning(
                "body was longer than its Content-Length: the rest was cut off",
                **_about(request),
                excess_bytes=response.excess_bytes,
            )

    def _failed(self, request: Request, error: BaseException, outcome: str) -> None:
        # isinstance() would run code of the exception's class.
        broke_a_rule = issubclass(type(error), InvalidResponse)
        traceback = application_traceback(error)
        trace = trace_of(request)
        if trace is not None:
            trace.fail(error, traceback)
        self.log.error(
            "application broke a rule" if broke_a_rule else "application failed",
            **_about(request),
            outcome=outcome,
            detail=str(error) if broke_a_rule else describe_error(error),
            exception=traceback,
            # Where trio is a guest of asyncio, no application runs in its tasks.
            **({"hint": WITHOUT_TRIO} if in_trio_task() and lacks_asyncio(error) else {}),
        )

    def _warn_once(self, event: str, **facts: str) -> None:
        mine = object()
        if self._warnings.setdefault(event, mine) is mine:
            self.log.warning(event, **facts)


def application_traceback(error: BaseException) -> str:
    """Format what an application raised, without the bridge's frames before and after the application's.

    Args:
        error: as it was raised. Where it is an `InvalidResponse`, or was raised from one, its traceback
            ends with the application's line that broke the rule. Where its class fails as it is
            formatted, the text says so.
    """
    try:
        _cut_at_rules(error)
        return own_traceback(error)
    except BaseException as why:  # noqa: BLE001 - formatting may run code of the application, which may exit
        return f"{_class_name(error)}, whose traceback can't be shown: {_class_name(why)}"


def _cut_at_rules(error: BaseException) -> None:
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, InvalidResponse):
            _cut_behind_application(one.__traceback__)
        pending += (one.__cause__, one.__context__)
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions


def _cut_behind_application(frame: TracebackType | None) -> None:
    its_last = None
    while frame is not None:
        if not str(frame.tb_frame.f_globals.get("__name__")).startswith(_RULES):
            its_last = frame
        frame = frame.tb_next
    if its_last is not None:
        its_last.tb_next = None


def describe_error(error: BaseException) -> str:
    """Give an exception's class and its message, which is cut to 500 characters; never raise."""
    try:
        message = str(error)
    except BaseException as why:  # noqa: BLE001 - str() may run code of the application, which may exit
        return f"{_class_name(error)}, whose message can't be shown: {_class_name(why)}"
    if len(message) > _MESSAGE_CHARACTERS:
        message = f"{message[:_MESSAGE_CHARACTERS]}..."
    return f"{_class_name(error)}: {message}" if message else _class_name(error)


def _class_name(error: BaseException) -> str:
    # Read from `type` itself: a metaclass may have a __name__ that raises.
    name: str = type.__dict__["__name__"].__get__(type(error))
    return name


def _about(request: Request) -> dict[str, object]:
    # The query is left out, because it may hold tokens.
    return {"method": request.method, "path": request.path, **fields_of(request)}
