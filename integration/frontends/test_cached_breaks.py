"""An answer that breaks off, through nginx with uwsgi_cache: it must not be kept as if it were whole."""

from __future__ import annotations

import secrets

import pytest

from integration.frontends.apps.lines import FIRST
from integration.frontends.conftest import Behind, each_nginx
from integration.frontends.running import Frontend


@each_nginx
@pytest.mark.parametrize("length", ["", "&length=1000"])
def test_a_broken_answer_is_not_kept(behind: Behind, frontend: Frontend, length: str):
    site = behind(frontend, "lines-wsgi")
    target = f"/cached/breaks?{secrets.token_hex(4)}=1{length}"
    for _ in range(2):
        answer = site.ask(target)
        # Nginx may drop what it has not passed on yet.
        assert answer.is_broken
        assert answer.body in {b"", FIRST}
        assert answer.headers["X-Cache"] == "MISS"
