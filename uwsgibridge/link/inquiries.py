"""Questions to a worker whose answers may be longer than a message: an answer comes in a memory file.

The supervisor makes the file and sends it with the question. The worker writes into it, which never waits, and then
says by a message that the answer is there.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from uwsgibridge.quick_dataclass import dataclass

# How long an answer may be. A worker that has more cuts it; what it says is in the answer itself.
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Asks a worker something.

    Attributes:
        number: tells the questions to one worker apart, and is not 0.
        subject: what is asked for, such as ``requests``.
        arguments: of the question, as values that JSON has.
    """

    number: int
    subject: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Make the bytes that `decode` reads."""
        return json.dumps({"inquiry": dataclasses.asdict(self)}).encode()

    @staticmethod
    def decode(data: bytes) -> Inquiry | None:
        """Read the bytes that `encode` has made; None for any other bytes."""
        try:
            raw = json.loads(data)["inquiry"]
            return Inquiry(int(raw["number"]), str(raw["subject"]), dict(raw["arguments"]))
        except (ValueError, KeyError, TypeError):
            return None


def write_answer(descriptor: int, answer: Mapping[str, object]) -> None:
    """Write an answer into its memory file; leave the descriptor open.

    Args:
        descriptor: of the file, which is empty.
        answer: as values that JSON has; with ``error``, a sentence, where there is none.
    """
    data = json.dumps(answer).encode()
    if len(data) > MAX_ANSWER_BYTES:
        data = json.dumps({"error": f"the answer has over {MAX_ANSWER_BYTES} bytes"}).encode()
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], written)


def read_answer(descriptor: int) -> dict[str, Any] | None:
    """Read what `write_answer` has written; None where it is no answer. The descriptor stays open."""
    size = min(os.fstat(descriptor).st_size, MAX_ANSWER_BYTES)
    try:
        answer = json.loads(os.pread(descriptor, size, 0))
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
