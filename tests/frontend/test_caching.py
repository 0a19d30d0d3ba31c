"""What Nginx keeps of an application's answers, and to whom it gives that."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from tests.frontend.conftest import Serve
from tests.frontend.stand_in import OK, PATIENCE_SECONDS, StandIn, get, say
from uwsgibridge.frontend.options import Cache
from uwsgibridge.frontend.private import PrivateNginx

KEPT = OK + b"Cache-Control: max-age=60\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture
def cached(serve: Serve, tmp_path: Path) -> PrivateNginx:
    tmp_path.chmod(0o755)
    return serve(cache=Cache(directory=f"{tmp_path}/pages"))


def test_an_answer_that_says_so_is_kept(app: StandIn, cached: PrivateNginx) -> None:
    app.answer = KEPT
    assert [get(cached, "/a?b").text for _ in range(3)] == ["hello"] * 3
    assert len(app.received) == 1


# What differs from GET /page of the host `example`: each is another question, or one that says who asks.
OTHERS = (
    b"GET /page HTTP/1.1\r\nHost: other.example\r\n",
    b"GET /page HTTP/1.1\r\nHost: example:81\r\n",
    b"GET /page?x=1 HTTP/1.1\r\nHost: example\r\n",
    b"GET /%70age HTTP/1.1\r\nHost: example\r\n",
    b"HEAD /page HTTP/1.1\r\nHost: example\r\n",
    b"POST /page HTTP/1.1\r\nHost: example\r\nContent-Length: 0\r\n",
    b"GET /page HTTP/1.1\r\nHost: example\r\nCookie: sessionid=1\r\n",
    b"GET /page HTTP/1.1\r\nHost: example\r\nAuthorization: Basic eA==\r\n",
    b"GET /page HTTP/1.1\r\nHost: example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
)


def test_another_question_gets_an_answer_of_its_own(app: StandIn, cached: PrivateNginx) -> None:
    app.answer = KEPT
    close = b"Connection: close\r\n\r\n"
    first = b"GET /page HTTP/1.1\r\nHost: example\r\n" + close
    say(cached, first)
    app.answer = KEPT.replace(b"hello", b"other")
    for number, other in enumerate(OTHERS, 2):
        answer = say(cached, other + close)
        assert len(app.received) == number, other
        assert answer.endswith(b"\r\n\r\n" if other.startswith(b"HEAD") else b"other"), other
        # Nor does the other answer take the place of the first one.
        assert say(cached, first).endswith(b"hello"), other
        assert len(app.received) == number, other


def test_an_answer_of_one_person_is_not_kept(app: StandIn, cached: PrivateNginx) -> None:
    heads = (
        b"",
        b"Cache-Control: max-age=60\r\nSet-Cookie: sessionid=1\r\n",
        b"Cache-Control: private, max-age=60\r\n",
        b"Cache-Control: no-store\r\n",
        b"Cache-Control: max-age=60\r\nVary: *\r\n",
    )
    for number, head in enumerate(heads):
        app.answer = OK + head + b"Content-Length: 5\r\n\r\nhello"
        assert [get(cached, f"/{number}").text for _ in range(2)] == ["hello"] * 2
        assert len(app.received) == 2 * (number + 1), head


def test_an_answer_that_says_nothing_is_kept_where_the_operator_says_so(
    app: StandIn, serve: Serve, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    nginx = serve(cache=Cache(directory=f"{tmp_path}/pages", valid_seconds=60))
    assert [get(nginx).text for _ in range(2)] == ["hello"] * 2
    assert len(app.received) == 1
    app.answer = b"HTTP/1.1 500 Oops\r\n\r\noops"
    assert [get(nginx, "/failing").status_code for _ in range(2)] == [500] * 2
    assert len(app.received) == 3


def test_pages_vary_as_the_application_says(app: StandIn, cached: PrivateNginx) -> None:
    app.answer = KEPT.replace(b"\r\n\r\n", b"\r\nVary: Accept-Language\r\n\r\n")
    for language in ("de", "en", "de", "en"):
        requests.get(cached.url, headers={"Accept-Language": language}, timeout=PATIENCE_SECONDS)
    assert len(app.received) == 2
