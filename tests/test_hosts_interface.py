"""Which interface a callable has, told by looking at it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import fastapi
import flask
import pytest
from starlette.middleware.gzip import GZipMiddleware

from uwsgibridge.hosts.interface import detect_interface


def wsgi_function(environ, start_response):
    return [b""]


def wsgi_generator(environ, start_response):
    yield b""


class WsgiClass:
    """The PEP's own example: making an instance is the call."""

    def __init__(self, environ, start_response):
        self.answer = [b""]

    def __iter__(self):
        return iter(self.answer)


class WsgiObject:
    def __call__(self, environ, start_response):
        return [b""]

    def method(self, environ, start_response):
        return [b""]


async def asgi_function(scope, receive, send):
    pass


async def asgi_with_other_names(a, b, c):
    pass


class AsgiObject:
    async def __call__(self, scope, receive, send):
        pass

    async def method(self, scope, receive, send):
        pass

    @staticmethod
    async def static(scope, receive, send):
        pass


def wrap(app: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(app)
    def wrapper(*args):
        return app(*args)

    return wrapper


def asgi_middleware(scope, receive, send):
    """A plain function that gives the coroutine of another application."""
    return asgi_function(scope, receive, send)


def needs_argument(configuration, scope, receive, send):
    return asgi_function(scope, receive, send)


async def coroutine_needs_argument(configuration, scope, receive, send):
    pass


@pytest.mark.parametrize(
    "app",
    [
        wsgi_function,
        wsgi_generator,
        lambda environ, start_response: [b""],
        lambda *args: [b""],
        WsgiClass,
        WsgiObject(),
        WsgiObject().method,
        functools.partial(wsgi_function),
        functools.partial(WsgiObject()),
        wrap(wsgi_function),
        flask.Flask("application"),
        flask.Flask("application").wsgi_app,
        print,  # some built-ins tell nothing about themselves
        dict,
    ],
    ids=repr,
)
def test_wsgi(app: Callable[..., Any]) -> None:
    assert detect_interface(app) == "wsgi"


@pytest.mark.parametrize(
    "app",
    [
        asgi_function,
        asgi_with_other_names,
        asgi_middleware,
        AsgiObject(),
        AsgiObject().method,
        AsgiObject.static,
        functools.partial(asgi_function),
        functools.partial(functools.partial(AsgiObject())),
        functools.partial(coroutine_needs_argument, {}),
        functools.partial(needs_argument, {}),
        wrap(asgi_function),
        fastapi.FastAPI(),
        GZipMiddleware(fastapi.FastAPI()),
    ],
    ids=repr,
)
def test_asgi(app: Callable[..., Any]) -> None:
    assert detect_interface(app) == "asgi"
