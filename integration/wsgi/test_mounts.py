"""Several applications in one worker, WSGI beside ASGI: each path leads to one, which knows where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from integration.wsgi.conftest import REPOSITORY, assert_no_complaints, mount
from integration.wsgi.fetching import fetch
from uwsgibridge.client import request
from uwsgibridge.testing import BridgeProcess, StackError, event_with

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack

# All that the shipped configuration sends: a location that has one uwsgi_param inherits none.
_PARAMS = """
    uwsgi_param PATH_INFO $document_uri;
    uwsgi_param QUERY_STRING $query_string;
    uwsgi_param REQUEST_METHOD $request_method;
    uwsgi_param REQUEST_URI $request_uri;
    uwsgi_param REQUEST_SCHEME $scheme;
    uwsgi_param SERVER_PROTOCOL $server_protocol;
    uwsgi_param SERVER_NAME $server_name;
    uwsgi_param SERVER_PORT $server_port;
    uwsgi_param REMOTE_ADDR $remote_addr;
    uwsgi_param CONTENT_TYPE $content_type;
    uwsgi_param CONTENT_LENGTH $content_length;
"""

_DIRECTIVES = f"""
# Nginx names the prefix, and has the bridge cut it off.
location /cut {{
    uwsgi_pass $uwsgibridge_upstream;
    uwsgi_modifier1 30;
    {_PARAMS}
    uwsgi_param SCRIPT_NAME /cut;
}}
# Nginx names the prefix, and cuts it off.
location /rewritten/ {{
    rewrite ^/rewritten(/.*)$ $1 break;
    uwsgi_pass $uwsgibridge_upstream;
    {_PARAMS}
    uwsgi_param PATH_INFO $uri;
    uwsgi_param SCRIPT_NAME /rewritten;
}}
# With a slash at its end, as people write it.
location /cut-with-slash/ {{
    uwsgi_pass $uwsgibridge_upstream;
    uwsgi_modifier1 30;
    {_PARAMS}
    uwsgi_param SCRIPT_NAME /cut-with-slash/;
}}
# As the documentation has it: with a slash at its end.
location = /documented {{
    return 301 /documented/$is_args$args;
}}
location /documented/ {{
    uwsgi_pass $uwsgibridge_upstream;
    uwsgi_modifier1 30;
    {_PARAMS}
    uwsgi_param SCRIPT_NAME /documented;
}}
# A slash at the end, and nobody cuts anything off.
location /trail/ {{
    rewrite ^/trail(/.*)$ $1 break;
    uwsgi_pass $uwsgibridge_upstream;
    {_PARAMS}
    uwsgi_param PATH_INFO $uri;
    uwsgi_param SCRIPT_NAME /trail/;
}}
location /only-a-slash/ {{
    uwsgi_pass $uwsgibridge_upstream;
    {_PARAMS}
    uwsgi_param SCRIPT_NAME /;
}}
# Not what the path begins with: nothing is cut off.
location /not-cut/ {{
    uwsgi_pass $uwsgibridge_upstream;
    uwsgi_modifier1 30;
    {_PARAMS}
    uwsgi_param SCRIPT_NAME /not;
}}
"""

E_ACUTE = "\N{LATIN SMALL LETTER E WITH ACUTE}"


@pytest.fixture(scope="module")
def mounted(serve: Callable[..., LocalStack], exercise_directory: Path) -> Iterator[LocalStack]:
    """An ASGI application at the root, WSGI ones below prefixes."""
    stack = serve(
        "telling:asgi",
        environment={"EXERCISE_DIRECTORY": str(exercise_directory)},
        serve_args=mount(
            "/foo=telling:one",
            "/foo/bar=telling:two",
            "/slash/=telling:two",
            f"/caf{E_ACUTE}=telling:one",
            "/shop=flask_app:plain",
            "/shop/dj=django_site.wsgi:plain",
        ),
        nginx_directives=_DIRECTIVES,
    )
    yield stack
    assert_no_complaints(stack)


@pytest.mark.parametrize(
    ("target", "app", "root", "path"),
    [
        ("/", "asgi", "", "/"),
        ("/foo", "one", "/foo", ""),
        ("/foo/", "one", "/foo", "/"),
        ("/foo?a=/foo/bar", "one", "/foo", ""),
        ("/foo/x/y", "one", "/foo", "/x/y"),
        ("/foobar", "asgi", "", "/foobar"),
        ("/foobar/foo", "asgi", "", "/foobar/foo"),
        ("/fo", "asgi", "", "/fo"),
        ("/FOO", "asgi", "", "/FOO"),
        ("/x/foo", "asgi", "", "/x/foo"),
        # The longest prefix.
        ("/foo/bar", "two", "/foo/bar", ""),
        ("/foo/bar/baz", "two", "/foo/bar", "/baz"),
        ("/foo/barely", "one", "/foo", "/barely"),
        ("/foo/ba", "one", "/foo", "/ba"),
        ("/foo/foo/bar", "one", "/foo", "/foo/bar"),
        # Written with a slash at its end it is the same.
        ("/slash", "two", "/slash", ""),
        ("/slash/x", "two", "/slash", "/x"),
        ("/slashed", "asgi", "", "/slashed"),
        # What Nginx has made of the path is what counts.
        ("/foo%2Fbar", "two", "/foo/bar", ""),
        ("/%66oo/x", "one", "/foo", "/x"),
        ("//foo//x", "one", "/foo", "/x"),
        ("/foo/../foobar", "asgi", "", "/foobar"),
        ("/foo/%2e%2e/x", "asgi", "", "/x"),
        ("/foo%252Fbar", "asgi", "", "/foo%2Fbar"),
        # Bytes of UTF-8, as latin-1 in the environ (PEP 3333).
        ("/caf%C3%A9/x", "one", "/caf\xc3\xa9", "/x"),
        ("/caf%C3%A9s", "asgi", "", f"/caf{E_ACUTE}s"),
        # Prefixes of Nginx's.
        ("/cut", "asgi", "/cut", "/cut"),
        ("/cut/x", "asgi", "/cut", "/cut/x"),
        ("/cut/foo/x", "one", "/cut/foo", "/x"),
        ("/cut/foo", "one", "/cut/foo", ""),
        ("/cut/foobar", "asgi", "/cut", "/cut/foobar"),
        ("/cut/foo/bar/x", "two", "/cut/foo/bar", "/x"),
        ("/cutter/foo", "asgi", "/cut", "/cut/cutter/foo"),
        ("/rewritten/foo/x", "one", "/rewritten/foo", "/x"),
        ("/rewritten/x", "asgi", "/rewritten", "/rewritten/x"),
        ("/cut-with-slash/foo/x", "one", "/cut-with-slash/foo", "/x"),
        ("/documented/", "asgi", "/documented", "/documented/"),
        ("/documented/x", "asgi", "/documented", "/documented/x"),
        ("/documented/foo/x", "one", "/documented/foo", "/x"),
        ("/documenteds", "asgi", "", "/documenteds"),
        ("/documenteds/foo", "asgi", "", "/documenteds/foo"),
        ("/trail/foo", "one", "/trail/foo", ""),
        ("/trail/foo/x", "one", "/trail/foo", "/x"),
        ("/trail/x", "asgi", "/trail", "/trail/x"),
        ("/only-a-slash/foo", "asgi", "", "/only-a-slash/foo"),
        ("/not-cut/foo", "asgi", "/not", "/not/not-cut/foo"),
    ],
)
def test_path_leads_to_an_application(
    mounted: LocalStack, target: str, app: str, root: str, path: str
):
    answer = fetch(mounted.url + target)
    assert answer.status == 200
    assert answer.json() == {"app": app, "root": root, "path": path}


@pytest.mark.parametrize("query", ["", "?a=b"])
def test_nginx_adds_the_missing_slash_to_the_documented_location(mounted: LocalStack, query: str):
    answer = fetch(f"{mounted.url}/documented{query}")
    assert answer.status == 301
    assert answer.headers["Location"].removeprefix(mounted.url) == f"/documented/{query}"


@pytest.mark.parametrize("outer", ["", "/cut", "/rewritten", "/cut-with-slash", "/trail"])
@pytest.mark.parametrize("below", ["/shop", "/shop/dj"], ids=["flask", "django"])
def test_framework_knows_its_prefix(
    mounted: LocalStack, browser: requests.Session, outer: str, below: str
):
    url = f"{mounted.url}{outer}{below}/where/caf{E_ACUTE}/x?a=b"
    found = browser.get(url).json()
    assert found["script_root"] == outer + below
    assert found["path"] == f"/where/caf{E_ACUTE}/x"
    assert found["here"] == f"{outer}{below}/where/caf%C3%A9/x"
    assert found["outside"].startswith(f"{mounted.url}{outer}{below}/where/caf%C3%A9/x")


@pytest.mark.parametrize("outer", ["", "/cut", "/rewritten"])
def test_redirects_of_flask_stay_below_the_prefix(
    mounted: LocalStack, browser: requests.Session, outer: str
):
    url = f"{mounted.url}{outer}/shop"
    answer = browser.post(f"{url}/log-in", data={"name": "ada"})
    assert [step.headers["Location"] for step in answer.history] == [f"{outer}/shop/me"]
    assert (answer.url, answer.text) == (f"{url}/me", "ada")


@pytest.mark.parametrize("outer", ["", "/cut", "/rewritten"])
def test_redirects_of_django_stay_below_the_prefix(
    mounted: LocalStack, browser: requests.Session, outer: str
):
    url = f"{mounted.url}{outer}/shop/dj"
    answer = browser.get(f"{url}/elsewhere")
    assert [step.headers["Location"] for step in answer.history] == [
        f"{outer}/shop/dj/where/redirected"
    ]
    assert answer.url == f"{url}/where/redirected"
    login = browser.get(f"{url}/admin/", allow_redirects=False)
    assert login.headers["Location"] == (
        f"{outer}/shop/dj/admin/login/?next={outer}/shop/dj/admin/"
    )


@pytest.mark.parametrize("outer", ["", "/cut", "/rewritten"])
def test_flask_adds_the_missing_slash_to_its_prefix(
    mounted: LocalStack, browser: requests.Session, outer: str
):
    answer = browser.get(f"{mounted.url}{outer}/shop", allow_redirects=False)
    assert answer.status_code == 308
    assert answer.headers["Location"].removeprefix(mounted.url) == f"{outer}/shop/"
    assert browser.get(f"{mounted.url}{outer}/shop/").text == "index"


def test_failure_is_told_with_the_whole_path(mounted: LocalStack, browser: requests.Session):
    before = len(mounted.log_events())
    assert browser.get(f"{mounted.url}/cut/shop/fails").status_code == 500
    event = mounted.wait_for_event(event_with(event="Exception on /fails [GET]"), since=before)
    assert event["logger"] == "integration.wsgi.apps.flask_app"


def test_without_an_application_at_the_root_the_rest_is_not_found(socket_kind: str, tmp_path: Path):
    bind = "127.0.0.1:0" if socket_kind == "tcp" else f"unix:{tmp_path}/s"
    with BridgeProcess(
        *mount("/foo=telling:one"), "--app-dir", str(REPOSITORY), "--bind", bind
    ) as bridge:
        assert request(bridge.address, "/foo/x").status == 200
        answer = request(bridge.address, "/foobar")
        assert answer.status == 404
        assert answer.body == b"No application is mounted at this path.\n"


@pytest.mark.parametrize(
    ("mounts", "says"),
    [
        (mount("/a=telling:one", "/a/=telling:two"), "two applications are mounted at '/a'"),
        (mount("a=telling:one"), "'a"),
        (mount("/caf%C3%A9=telling:one"), f"write the prefix as '/caf{E_ACUTE}'"),
        (mount("/a//b=telling:one"), "write the prefix as '/a/b'"),
        (("--mount", "/a"), "is not of the form /prefix=module:attribute"),
    ],
)
def test_mounts_that_make_no_sense_are_refused(mounts: tuple[str, ...], says: str):
    bridge = BridgeProcess(*mounts, "--app-dir", str(REPOSITORY), "--bind", "127.0.0.1:0")
    with pytest.raises(StackError, match="status 2") as caught, bridge:
        pass
    assert says in str(caught.value)
    assert "--mount" in str(caught.value)
