"""Answers what an operator asks a worker by ``ctl``, as `uwsgibridge.link.inquiries` has it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from uwsgibridge.link.inquiries import Inquiry, write_answer
from uwsgibridge.worker.requests_underway import list_requests

if TYPE_CHECKING:
    from uwsgibridge.worker.worker import Worker

Answer = Mapping[str, object]


def answer_inquiry(
    worker: Worker, inquiry: Inquiry, descriptor: int, answered: Callable[[], object]
) -> None:
    """Answer a question, at once or by a thread of its own, and never raise.

    Args:
        worker: that is asked; its loop calls this.
        inquiry: the question.
        descriptor: of the memory file for the answer; closed when it is written.
        answered: called when the answer is there, from any thread.
    """
    if inquiry.subject in _ON_LOOP:
        _answer(lambda: _ON_LOOP[inquiry.subject](worker, inquiry.arguments), descriptor, answered)
        return
    find = _ASIDE.get(inquiry.subject)
    if find is None:
        _answer(
            lambda: {"error": "this worker is older, and does not know it"}, descriptor, answered
        )
        return
    # A daemon, so that no end of a worker waits for it.
    threading.Thread(
        target=_answer,
        args=(lambda: find(inquiry.arguments), descriptor, answered),
        name="inquiry",
        daemon=True,
    ).start()


def _answer(find: Callable[[], Answer], descriptor: int, answered: Callable[[], object]) -> None:
    try:
        try:
            answer = find()
        except Exception as error:  # noqa: BLE001 - a fault here must not end the worker
            answer = {"error": f"{type(error).__name__}: {error}"}
        write_answer(descriptor, answer)
        answered()
    finally:
        os.close(descriptor)


def _profile(arguments: Mapping[str, Any]) -> Answer:
    from uwsgibridge.worker.sampling import sample  # imported here: few workers are profiled

    return sample(arguments["seconds"])


def _describe_memory(arguments: Mapping[str, Any]) -> Answer:
    from uwsgibridge.worker.traced_memory import describe_memory  # imported here, likewise

    return describe_memory(lines=arguments["lines"], resets=arguments["reset"])


# What looks at the tables of the hosts does so on the loop, and takes microseconds for each request.
_ON_LOOP: Final[dict[str, Callable[[Worker, Mapping[str, Any]], Answer]]] = {
    "requests": lambda worker, arguments: list_requests(
        worker.underway(),
        older_seconds=arguments["older_seconds"],
        limit=arguments["limit"],
        with_stacks=arguments["with_stacks"],
    ),
    "probe": lambda worker, arguments: worker.probe(arguments["token"], ends=arguments["ends"]),
}

# What takes its time, in a thread.
_ASIDE: Final[dict[str, Callable[[Mapping[str, Any]], Answer]]] = {
    "profile": _profile,
    "memory": _describe_memory,
}
