"""Sends the answer of one HTTP request of an ASGI application: its end, files, and failures."""

from __future__ import annotations

import asyncio
import os
from typing import Final

import trio

from uwsgibridge.connection.sending import PeerGone
from uwsgibridge.hosts.asgi.exchange import AsgiExchange
from uwsgibridge.hosts.files import CANT_SEND_FILE, begin_file
from uwsgibridge.hosts.offload import NamedFile
from uwsgibridge.protocol.answers import AnswerMaker
from uwsgibridge.protocol.response import Response

# How much of a file is sent at once after its first piece.
_FILE_PIECE_BYTES: Final = 262_144


class HttpAnswer(AsgiExchange):
    """Sends to the client; `HttpExchange` decides what to send, as the application asks."""

    _response: Response  # made by `HttpExchange`: a constructor of this class would cost each request a call
    _file_instead: NamedFile | None = None  # sent in place of the application's body
    # Whether a `send` of a file was cancelled: nothing can follow that part of it.
    _is_file_cut = False

    def _is_open_ended(self) -> bool:
        return self._response.is_open_ended

    def _send_head(self) -> None:
        """Send the head alone, without a wait.

        Raises:
            PeerGone: the client is gone, or the socket did not take the whole head. In the middle of a head, no body
                may follow, and nobody could wait here, so the answer is broken off.
        """
        buffers = self._response.send(b"")
        try:
            for data in buffers:
                if self._send_some(data) != len(data):
                    self._mark_client_gone()
                    raise PeerGone("the head does not fit the socket")
        except PeerGone:
            self._record_unsent(buffers, data)
            raise

    async def _send_file(
        self, descriptor: int, offset: int, count: int | None, *, last: bool
    ) -> int:
        """Have the kernel send from a file (ASGI extensions, "Path Send" and "Zero Copy Send").

        Returns:
            The offset in the file after the bytes that were sent.
        """
        turn = self._take_turn()
        try:
            return await self._send_file_in_turn(descriptor, offset, count, last=last)
        except (asyncio.CancelledError, trio.Cancelled):
            self._is_file_cut = True
            raise
        finally:
            self._pass_turn(turn)

    async def _send_file_in_turn(
        self, descriptor: int, offset: int, count: int | None, *, last: bool
    ) -> int:
        file = begin_file(descriptor, offset)
        wanted = file.size_bytes if count is None else min(file.size_bytes, count)
        response = self._response
        left = response.allow(wanted, last=last)
        if 0 < left < wanted:
            response.excess_bytes += wanted - left
        first = file.first_piece[:left]
        await self._write_all(response.send(first))
        offset, left = offset + len(first), left - len(first)
        while left and (sent := await self._send_piece(descriptor, offset, left)):
            response.sent_elsewhere(sent)
            offset, left = offset + sent, left - sent
        if last:
            await self._write_all(response.finish())
            self._end(complete=True)
            self._context.reporter.check_answer(self.request, response)
        return offset

    async def _send_piece(self, descriptor: int, offset: int, left: int) -> int:
        context = self._context
        while True:
            try:
                return self.connection.send_file(descriptor, offset, min(left, _FILE_PIECE_BYTES))
            except BlockingIOError:
                seconds = context.settings.write_timeout_seconds
                if not await context.loop.wait_writable(self.connection, seconds):
                    context.reporter.reader_stalled(self.request)
                    self._mark_client_gone()
                    raise PeerGone("the client does not take the answer") from None
                if self._ended:
                    raise PeerGone("the request was ended at its deadline") from None
            except PeerGone:
                self._mark_client_gone()
                raise
            except OSError as error:
                if error.errno not in CANT_SEND_FILE:
                    raise
                piece = os.pread(descriptor, min(left, _FILE_PIECE_BYTES), offset)
                await self._write(piece)
                return len(piece)

    async def _finish_for_application(self) -> None:
        """Complete an answer whose end the application has not sent, as other servers do."""
        await self._write_all(self._response.finish())
        self._end(complete=True)
        self._context.reporter.unfinished_answer()
        self._context.reporter.check_answer(self.request, self._response)

    def _fail(self, make_answer: AnswerMaker) -> None:
        """Answer with a failure where that is still possible; else break the connection."""
        if self._ended:
            return
        answered = False
        if not self._response.is_head_sent and not self._gone:
            answer = self._context.reporter.with_id(self.request, make_answer(self.request.method))
            self._expect_whole(self._context.recorder, answer.status)
            try:
                # Nothing was sent before, so a short answer fits without a wait.
                answered = self.connection.send(answer.data) == len(answer.data)
                self._record_failure_answer(answer)
            except OSError:
                self._gone = True
        self._end(complete=answered)

    def _is_seen_to_be_cut(self) -> bool:
        return self._response.is_cut_visible
