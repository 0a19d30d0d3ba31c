"""The environ behind a real Nginx: what Nginx is told to say, and what the bridge says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from integration.wsgi.conftest import assert_no_complaints, mount
from integration.wsgi.fetching import fetch
from uwsgibridge.testing import Site

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack

APP = "environ:application"

PARAMS = """
    uwsgi_pass $uwsgibridge_upstream;
    uwsgi_param REQUEST_METHOD $request_method;
    uwsgi_param PATH_INFO $document_uri;
    uwsgi_param QUERY_STRING $query_string;
    uwsgi_param SERVER_PROTOCOL $server_protocol;
"""

DIRECTIVES = f"""
location /told/ {{
    {PARAMS}
    uwsgi_param REMOTE_USER alice;
    uwsgi_param AUTH_TYPE Basic;
    uwsgi_param SSL_CLIENT_VERIFY SUCCESS;
    uwsgi_param SSL_CLIENT_S_DN "CN=alice,O=Ex\xe4mple";
    uwsgi_param X_OF_ITS_OWN "of its own";
    uwsgi_param HTTPS on;
}}
location /nameless/ {{
    {PARAMS}
    uwsgi_param SERVER_NAME "";
    uwsgi_param SERVER_PORT "";
}}
location /cut/ {{
    {PARAMS}
    uwsgi_modifier1 30;
    uwsgi_param SCRIPT_NAME /cut;
}}
"""


@pytest.fixture(scope="module")
def telling(serve: Callable[..., LocalStack]) -> Iterator[LocalStack]:
    stack = serve(
        APP,
        serve_args=("--threads", "1", *mount("/beside=environ:application")),
        nginx_directives=DIRECTIVES,
        site=Site(server_names=("one.example",)),
    )
    yield stack
    assert_no_complaints(stack)


def test_vars_of_nginx_are_in_it(telling: LocalStack):
    """Whatever they are called; text is the bytes of UTF-8 as latin-1 (PEP 3333)."""
    environ = fetch(f"{telling.url}/told/me").json()
    assert environ["REMOTE_USER"] == "alice"
    assert environ["AUTH_TYPE"] == "Basic"
    assert environ["SSL_CLIENT_VERIFY"] == "SUCCESS"
    assert environ["SSL_CLIENT_S_DN"].encode("latin-1").decode() == "CN=alice,O=Ex\xe4mple"
    assert environ["X_OF_ITS_OWN"] == "of its own"
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["PATH_INFO"] == "/told/me"


def test_client_can_not_say_what_nginx_says(telling: LocalStack):
    headers = [("Remote-User", "mallory"), ("SSL-Client-Verify", "SUCCESS"), ("Script-Name", "/x")]
    environ = fetch(f"{telling.url}/", headers=headers).json()
    assert {"REMOTE_USER", "SSL_CLIENT_VERIFY"} & set(environ) == set()
    assert environ["SCRIPT_NAME"] == ""
    assert environ["HTTP_REMOTE_USER"] == "mallory"


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        ("two.example", "two.example", "80"),
        ("two.example:8080", "two.example", "80"),
        ("[::1]:8080", "::1", "80"),
    ],
)
def test_without_a_server_name_the_host_is_one(
    telling: LocalStack, host: str, name: str, port: str
):
    environ = fetch(f"{telling.url}/nameless/", headers=[("Host", host)]).json()
    assert (environ["SERVER_NAME"].strip("[]"), environ["SERVER_PORT"]) == (name, port)
    assert environ["HTTP_HOST"] == host


def test_server_name_of_nginx_goes_before_the_host(telling: LocalStack):
    environ = fetch(f"{telling.url}/", headers=[("Host", "two.example")]).json()
    assert environ["SERVER_NAME"] == "one.example"
    assert environ["SERVER_PORT"] == telling.url.rpartition(":")[2]


@pytest.mark.parametrize(
    ("path", "script_name", "path_info"),
    [
        ("/", "", "/"),
        ("/any/where/", "", "/any/where/"),
        ("/cut/short", "/cut", "/short"),
        ("/cut/", "/cut", "/"),
        ("/beside/it", "/beside", "/it"),
        ("/beside", "/beside", ""),
    ],
)
def test_script_name_is_always_there(
    telling: LocalStack, path: str, script_name: str, path_info: str
):
    environ = fetch(telling.url + path).json()
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)


def concurrency(environ: dict[str, object]) -> dict[str, object]:
    names = ("multithread", "multiprocess", "run_once")
    return {name: environ[f"wsgi.{name}"] for name in names}


def test_two_mounts_of_one_application_run_at_once(telling: LocalStack):
    """Each has a thread of its own."""
    for path in ("/", "/beside"):
        assert concurrency(fetch(telling.url + path).json()) == {
            "multithread": True,
            "multiprocess": False,
            "run_once": False,
        }


@pytest.mark.parametrize(
    ("workers", "threads", "expected"),
    [
        ("0", "1", (False, False)),
        ("0", "2", (True, False)),
        # A second one is beside it at a reload.
        ("1", "1", (False, True)),
        ("2", "2", (True, True)),
    ],
)
def test_it_says_what_runs_at_once(
    serve: Callable[..., LocalStack], workers: str, threads: str, expected: tuple[bool, bool]
):
    stack = serve(APP, serve_args=("--workers", workers, "--threads", threads))
    told = concurrency(fetch(f"{stack.url}/").json())
    assert (told["multithread"], told["multiprocess"]) == expected
    assert told["run_once"] is False
    assert_no_complaints(stack)
