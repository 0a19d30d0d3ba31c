"""Which interface a callable has, told by looking at it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import fastapi
import flask
import pytest
import werkzeug
from starlette.middleware.gzip import GZipMiddleware

from uwsgibridge.application.application import describe
from uwsgibridge.application.interface import check_interface, detect_interface
from uwsgibridge.errors import ApplicationError


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


def other_names(first, second, third):
    """A plain function of three, which returns something to await."""
    return asgi_function(first, second, third)


class AsgiClass:
    """Making an instance is the call, and the instance is awaited."""

    def __init__(self, scope, receive, send):
        pass

    def __await__(self):
        yield


@werkzeug.Request.application
def werkzeug_view(request):
    return werkzeug.Response("a view")


@functools.lru_cache
def cached(environ, start_response):
    return [b""]


def with_more(environ, start_response, charset="utf-8", *, debug=False):
    return [b""]


def with_defaults(environ=None, start_response=None):
    return [b""]


@functools.wraps(needs_argument)
def adapted_to_wsgi(environ, start_response):
    """Looks like what it wraps, by its name alone."""
    return [b""]


def double(scope, receive=None, send=None):
    """Speaks ASGI 2 and 3."""
    return asgi_function(scope, receive, send)


async def async_with_default(scope, receive, send, *, debug=False):
    pass


class WithoutSignature:
    """Its annotations need what is imported for type checkers alone."""

    @property
    def __signature__(self):
        raise NameError("name 'Environ' is not defined")

    def __call__(self, environ, start_response):
        return [b""]


class RaisesWhenLookedAt:
    """As a proxy does that has nothing to stand for yet."""

    def __getattr__(self, name):
        raise RuntimeError("outside of a context")

    def __call__(self, environ, start_response):
        return [b""]


class RaisesWhenCompared:
    def __eq__(self, other):
        raise RuntimeError("not comparable")

    def __hash__(self):
        return 1

    def __call__(self, environ, start_response):
        return [b""]


def create_app():
    return wsgi_function


def create_configured(configuration=None):
    return wsgi_function


def keyword_only(environ, start_response, *, configuration):
    return [b""]


async def async_of_two(environ, start_response):
    return [b""]


class DoubleClass:
    """ASGI 2: an instance for each connection."""

    def __init__(self, scope):
        pass

    async def __call__(self, receive, send):
        pass


class DoubleObject:
    def __call__(self, scope):
        return DoubleClass(scope)


FACTORY = "takes no arguments, so it is no application; if it returns one, serve it with --factory"
ASGI_2 = (
    "takes one argument, as applications of ASGI 2 do, which is not served; wrap it with asgiref's "
    "guarantee_single_callable"
)
NEITHER = (
    "fits neither interface: WSGI calls it with (environ, start_response), ASGI awaits it with "
    "(scope, receive, send)"
)


def named(value: object) -> str:
    """Write a value as an id: as `repr` does, without the address, which each process has for itself."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


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
        werkzeug_view,
        WithoutSignature(),
        RaisesWhenLookedAt(),
        RaisesWhenCompared(),
        cached,
        with_more,
        with_defaults,
        adapted_to_wsgi,
        functools.partial(other_names, "first"),
        functools.partial(with_more, charset="latin-1"),
        print,  # some built-ins tell nothing about themselves
        dict,
    ],
    ids=named,
)
def test_wsgi_is_detected(app: Callable[..., Any]) -> None:
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
        other_names,
        AsgiClass,
        double,
        async_with_default,
        wrap(double),
    ],
    ids=named,
)
def test_asgi_is_detected(app: Callable[..., Any]) -> None:
    assert detect_interface(app) == "asgi"


@pytest.mark.parametrize(
    ("app", "name", "says"),
    [
        (create_app, "create_app", FACTORY),
        (create_configured, "create_configured", FACTORY),
        (WsgiObject, "WsgiObject", FACTORY),  # the class in place of an instance
        (AsgiObject, "AsgiObject", FACTORY),
        (functools.partial(wsgi_function, {}, None), "partial", FACTORY),
        (DoubleClass, "DoubleClass", ASGI_2),
        (DoubleObject(), "DoubleObject", ASGI_2),
        (DoubleObject().__call__, "DoubleObject.__call__", ASGI_2),
        (functools.partial(wsgi_function, {}), "partial", ASGI_2),
        (needs_argument, "needs_argument", NEITHER),
        (coroutine_needs_argument, "coroutine_needs_argument", NEITHER),
        (keyword_only, "keyword_only", NEITHER),
        (async_of_two, "async_of_two", NEITHER),
    ],
    ids=named,
)
def test_what_fits_neither_is_refused_in_a_sentence(
    app: Callable[..., Any], name: str, says: str
) -> None:
    with pytest.raises(ApplicationError) as caught:
        detect_interface(app)
    module = "functools" if name == "partial" else __name__
    assert str(caught.value) == f"{module}:{name} {says}"
    assert not caught.value.traceback_text


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        (wsgi_function, "wsgi"),
        (double, "asgi"),
        (with_more, "asgi"),  # whatever else it looks like
        (lambda *args: [b""], "wsgi"),
        (wrap(asgi_function), "asgi"),
        (werkzeug_view, "wsgi"),
        (flask.Flask("application"), "wsgi"),
        (fastapi.FastAPI(), "asgi"),
        (dict, "asgi"),
    ],
    ids=named,
)
def test_chosen_interface_that_the_callable_can_take(
    app: Callable[..., Any], interface: str
) -> None:
    check_interface(app, interface)


@pytest.mark.parametrize(
    ("app", "interface", "says"),
    [
        (wsgi_function, "asgi", "can't be called with (scope, receive, send), as --interface asgi"),
        (asgi_function, "wsgi", "can't be called with (environ, start_response), as --interface"),
        (create_app, "wsgi", FACTORY),
        (create_app, "asgi", FACTORY),
        (DoubleObject(), "asgi", ASGI_2),
    ],
    ids=named,
)
def test_chosen_interface_that_it_can_not_take_is_refused_in_a_sentence(
    app: Callable[..., Any], interface: str, says: str
) -> None:
    with pytest.raises(ApplicationError) as caught:
        check_interface(app, interface)
    assert says in str(caught.value)


@pytest.mark.parametrize("interface", ["auto", "wsgi"])
def test_an_object_that_raises_when_it_is_looked_at_has_the_name_of_its_class(
    interface: str,
) -> None:
    assert describe(RaisesWhenLookedAt(), interface).name == f"{__name__}:RaisesWhenLookedAt"
