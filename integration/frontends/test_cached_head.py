"""HEAD through nginx with uwsgi_cache, which has no convert_head: its empty body must not become GET's."""

from __future__ import annotations

import secrets

import pytest

from integration.frontends.conftest import Behind, each_nginx
from integration.frontends.running import Frontend


@each_nginx
@pytest.mark.parametrize("length", ["", "&length=11"])
def test_get_after_head_has_its_body(behind: Behind, frontend: Frontend, length: str):
    site = behind(frontend, "lines-wsgi")
    target = f"/cached/content?{secrets.token_hex(4)}=1{length}"
    head = site.ask(target, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert "X-Accel-Expires" not in head.headers
    assert site.ask(target).body == b"the content"
    # What GET got is kept, and for HEAD as well.
    assert site.ask(target).headers["X-Cache"] == "HIT"
    assert site.ask(target, method="HEAD").status == 200
    assert site.ask(target).body == b"the content"
