"""What the demo applications answer to an upload: its size, its SHA-256 and how fast it was read."""

import hashlib
import time


class Receipt:
    """Count and hash an upload as it arrives; nothing of it is kept."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        self._chunks = 0
        self._started = time.monotonic()

    def add(self, chunk: bytes) -> None:
        """Count the next piece of the body; an empty piece, by which ASGI ends a body, changes nothing."""
        if chunk:
            self._hash.update(chunk)
            self._size_bytes += len(chunk)
            self._chunks += 1

    def report(self) -> dict[str, str | int | float]:
        """Return the figures as JSON values; the rate is 0 where no time has passed by the clock."""
        seconds = time.monotonic() - self._started
        return {
            "size_bytes": self._size_bytes,
            "sha256": self._hash.hexdigest(),
            "chunks": self._chunks,
            "seconds": round(seconds, 6),
            "bytes_per_second": round(self._size_bytes / seconds) if seconds else 0,
        }
