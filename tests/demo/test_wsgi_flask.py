"""The demo's Flask application."""

from __future__ import annotations

import hashlib
import io
import json
from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient

from uwsgibridge.demo import wsgi_flask

SECRET = "s3cr3t-value"
CLOCK = "uwsgibridge.demo.wsgi_flask.time"


@pytest.fixture
def client() -> FlaskClient:
    return wsgi_flask.app.test_client()


def test_the_index_links_to_where_it_is_mounted(client: FlaskClient) -> None:
    answer = client.get("/", base_url="http://127.0.0.1:8080/flask")

    assert answer.status_code == 200
    assert 'href="/flask/environ/' in answer.text
    assert 'action="/flask/"' in answer.text
    assert 'href="/flask/assets/style.css"' in answer.text
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def test_the_mount_without_its_slash_is_redirected_to_the_index(client: FlaskClient) -> None:
    answer = client.get("", base_url="http://127.0.0.1:8080/flask")

    assert answer.status_code == 308
    assert answer.headers["Location"].endswith("/flask/")


def test_the_form_answers_with_what_flask_made_of_it(client: FlaskClient) -> None:
    form = {"name": "Ada <script>", "file": (io.BytesIO(b"some bytes"), "a.txt")}

    answer = client.post("/", data=form)

    assert answer.status_code == 200
    assert "Hello, Ada &lt;script&gt;" in answer.text
    assert "<script" not in answer.text
    assert "multipart/form-data" in answer.text
    assert "a.txt" in answer.text
    assert "10 bytes" in answer.text
    assert hashlib.sha256(b"some bytes").hexdigest() in answer.text


def test_the_form_needs_no_file(client: FlaskClient) -> None:
    answer = client.post("/", data={"name": "Ada"})

    assert "Hello, Ada" in answer.text
    assert "application/x-www-form-urlencoded" in answer.text
    assert "SHA-256" not in answer.text.partition("Addresses")[0]


def test_the_environ_is_shown_in_order_with_secrets_masked(client: FlaskClient) -> None:
    client.set_cookie("session", SECRET)

    answer = client.get(
        "/environ/caf%C3%A9?size=large",
        headers={"Authorization": f"Bearer {SECRET}", "X-Zebra": "1"},
    )

    assert answer.status_code == 200
    assert SECRET not in answer.text
    shown = json.loads(answer.text)
    assert shown["HTTP_COOKIE"] == "(masked)"
    assert shown["HTTP_AUTHORIZATION"] == "(masked)"
    assert shown["PATH_INFO"] == "/environ/caf\xc3\xa9"
    assert shown["QUERY_STRING"] == "size=large"
    assert shown["wsgi.version"] == [1, 0]
    assert list(shown) != sorted(shown)
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_status_names_the_thread(client: FlaskClient) -> None:
    shown = client.get("/status").get_json()

    assert shown["interface"] == "WSGI"
    assert shown["application"].startswith("Flask 3")
    assert shown["runs_on"] == "MainThread"


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_upload_is_counted_and_hashed(client: FlaskClient, method: str) -> None:
    body = bytes(range(256)) * 1_000

    receipt = client.open("/upload", method=method, data=body).get_json()

    assert receipt["size_bytes"] == 256_000
    assert receipt["sha256"] == hashlib.sha256(body).hexdigest()
    assert receipt["chunks"] == 4  # read in pieces of 64 KiB


def test_the_stream_comes_a_line_at_a_time_and_ends(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(CLOCK, SimpleNamespace(sleep=slept.append))

    answer = client.get("/stream", buffered=False)
    received = []
    for line in answer.iter_encoded():
        received.append(line)
        # One wait lies between two lines: none is made before its time.
        assert len(slept) == len(received) - 1
        assert line.count(b"\n") == 1
    answer.close()

    assert len(received) == 20
    assert slept == [0.25] * 20
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert "Content-Length" not in answer.headers


def test_the_stream_stops_when_it_is_closed(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(CLOCK, SimpleNamespace(sleep=slept.append))

    answer = client.get("/stream", buffered=False)
    lines = answer.iter_encoded()
    next(lines)
    next(lines)
    answer.close()

    assert list(lines) == []
    assert len(slept) == 1


def test_assets_are_served_with_their_types(client: FlaskClient) -> None:
    answer = client.get("/assets/style.css")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/css; charset=utf-8"


@pytest.mark.parametrize(
    "path",
    [
        "/assets/",
        "/assets/../wsgi_flask.py",
        "/assets/..%2Fpage.py",
        "/assets//etc/passwd",
        "/assets/flask.html",
        "/static/page.js",
    ],
)
def test_no_path_leads_out_of_the_assets(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code in {308, 404}
    assert client.get(path, follow_redirects=True).status_code == 404
