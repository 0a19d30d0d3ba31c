"""The live view: what it answers at each path, and that its policy holds for what it has in it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.control_server import REQUESTS, FakeSupervisor
from uwsgibridge.live_page.pages import Page, live_pages


async def page(path: str) -> Page:
    return await live_pages(FakeSupervisor())[path]()


@pytest.mark.trio
async def test_each_file_that_the_page_names_is_there() -> None:
    made = live_pages(FakeSupervisor())
    text = (await page("/")).body.decode()
    named = re.findall(r'(?:src|href)="([^"]+)"', text) + re.findall(
        r"get\(\"([^\"]+)\"\)", (await page("/live.js")).body.decode()
    )
    assert sorted(named) == ["data:,", "live.css", "live.js", "requests.json", "status.json"]
    assert {f"/{it}" for it in named if ":" not in it} <= made.keys()


@pytest.mark.trio
async def test_nothing_needs_another_host_or_a_script_in_the_text() -> None:
    for path in ("/", "/live.css", "/live.js"):
        text = (await page(path)).body.decode()
        assert not re.search(r"https?://|//cdn", text), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text), (
            path
        )
    html = (await page("/")).body.decode()
    assert not re.search(r"<script(?! src=)|<style| on\w+=| style=", html)


@pytest.mark.trio
@pytest.mark.parametrize("path", ["/", "/live.css", "/live.js", "/status.json", "/requests.json"])
async def test_each_answer_has_a_type_and_the_policy(path: str) -> None:
    made = await page(path)
    assert made.content_type.split(";")[0] in {
        "text/html", "text/css", "text/javascript", "application/json",
    }  # fmt: skip
    policy = made.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert made.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.trio
async def test_figures_are_those_of_the_supervisor_without_stacks() -> None:
    supervisor = FakeSupervisor()
    made = live_pages(supervisor)
    status: dict[str, Any] = json.loads((await made["/status.json"]()).body)
    assert status == supervisor.status_answer
    answer = json.loads((await made["/requests.json"]()).body)
    assert [it["path"] for it in answer["requests"]] == [it["path"] for it in REQUESTS]
    assert supervisor.asked == ["status", ("requests", 200, 0.0, False)]
