"""Has the accelerator run WSGI applications of all kinds, under AddressSanitizer and UndefinedBehaviorSanitizer.

`tests.fuzz.fast_under_sanitizers` starts it, with the module that it has compiled: the package uses that one here.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import Any, Final

# The first requests fill memos and pools.
WARM_UP_REQUESTS: Final = 2000
# One of so many answers is larger than what a connection takes at once.
LARGE_ANSWERS: Final = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--module", type=Path, required=True)
    asked = parser.parse_args()
    from tests.fuzz.fast_under_sanitizers import MOST_GROWTH_BYTES, load, resident_bytes

    sys.modules["uwsgibridge.fast._fast"] = load(asked.module)
    from uwsgibridge import fast

    assert fast.accelerator is sys.modules["uwsgibridge.fast._fast"], fast.accelerator_state
    chance = random.Random(asked.seed)
    for _ in range(WARM_UP_REQUESTS):
        ask(chance)
    before = resident_bytes()
    for _ in range(asked.requests):
        ask(chance)
    grown = resident_bytes() - before
    print(f"{asked.requests} requests of WSGI; memory grew by {grown >> 10} KiB")  # noqa: T201
    assert grown < MOST_GROWTH_BYTES, "memory grows"


def ask(chance: random.Random) -> None:
    """Have an application answer twice."""
    if not chance.randrange(LARGE_ANSWERS):
        ask_for_much(chance)
        return
    from tests import wsgi_applications as apps
    from tests.wsgi_conversation import Conversations

    headers: Any = chance.choice(
        [
            *apps.PLAIN_HEADERS,
            chance.choice(apps.ODD_HEADERS),
            [(chance.choice(apps.NAMES), chance.choice(apps.VALUES)) for _ in range(3)],
        ]
    )
    app = apps.make_app(
        chance.choice(apps.STATUSES) if chance.randrange(2) else "200 OK",
        headers,
        [
            chance.choice(apps.PIECES if chance.randrange(2) else apps.PLAIN_PIECES)
            for _ in range(chance.choice((0, 1, 1, 1, 2)))
        ],
        chance.choice(apps.KINDS),
        chance.choice(apps.FAILURES),
        chance.choice(apps.AGAIN),
        [chance.choice(apps.PIECES)] * chance.choice((0, 0, 1)),
    )
    host = Conversations(app, logs_access=bool(chance.randrange(2)))
    for _ in range(2):
        host.ask(
            {"REQUEST_METHOD": chance.choice(("GET", "POST", "HEAD"))},
            chance.choice((b"", b"body", apps.UPLOAD)),
            family=chance.choice(("unix", "tcp")),
            leaves=not chance.randrange(10),
        )


def ask_for_much(chance: random.Random) -> None:
    """Have an application answer twice with more than fits: to a client that reads it, reads a part, or reads nothing."""
    from tests.hosts.wsgi.test_straight_bodies import ask_while_reading
    from tests.wsgi_conversation import Conversations

    size = chance.choice((250_000, 300_000, 1_000_000))
    body = bytes(size)
    as_iterable = chance.choice((lambda: [body], lambda: (body,), lambda: iter([body])))

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", str(size))])
        return as_iterable()

    host = Conversations(
        app, logs_access=bool(chance.randrange(2)), write_timeout_seconds=chance.choice((0.001, 10))
    )
    reads = host.context.settings.write_timeout_seconds >= 1
    for _ in range(2):
        if reads:
            received, _ = ask_while_reading(host, send_buffer_bytes=4096)
            assert received.endswith(body)
        else:
            host.ask(reads=lambda _: None, send_buffer_bytes=4096)


if __name__ == "__main__":
    main()
