"""Importing an application: what is found, and one clear sentence for what is not."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from uwsgibridge.application.loading import load_application, load_applications, load_hook
from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import ApplicationError

WriteModule = Callable[..., Path]

PATIENCE_SECONDS = 20.0

APP = "def app(environ, start_response):\n    return [b'app']\n"


@pytest.fixture(autouse=True)
def import_system() -> Iterator[None]:
    """Leave the import path and the modules as they were."""
    path, modules = sys.path.copy(), set(sys.modules)
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    yield
    sys.dont_write_bytecode = writes_bytecode
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def write_module(tmp_path: Path) -> WriteModule:
    def write(source: str, name: str = "bridged_app.py") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source, "utf-8")
        return file

    return write


def refusal(name: str, app_dir: Path, *, factory: bool = False) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        load_application(name, app_dir=str(app_dir), factory=factory)
    assert "\n" not in str(caught.value)  # one sentence; the rest is in the traceback
    return caught.value


class TestFinding:
    @pytest.mark.parametrize(
        "name",
        ["bridged_app:app", "bridged_app:namespace.app", "bridged_app:namespace.Inner.app"],
    )
    def test_module_and_attribute_are_found(
        self, write_module: WriteModule, tmp_path: Path, name: str
    ) -> None:
        write_module(APP + "class namespace:\n    app = app\n    class Inner:\n        app = app\n")
        assert load_application(name, app_dir=str(tmp_path))({}, None) == [b"app"]

    def test_a_module_in_a_package_is_found(
        self, write_module: WriteModule, tmp_path: Path
    ) -> None:
        write_module("", "bridged_site/__init__.py")
        write_module(APP, "bridged_site/wsgi.py")
        assert callable(load_application("bridged_site.wsgi:app", app_dir=str(tmp_path)))

    @pytest.mark.parametrize("name", ["bridged_app", "bridged_app:"])
    @pytest.mark.parametrize(
        ("source", "answer"),
        [
            ("app = lambda: 'flask'", "flask"),
            ("application = lambda: 'django'", "django"),
            ("app = lambda: 'flask'\napplication = lambda: 'django'", "django"),
        ],
    )
    def test_the_usual_attributes_are_found(
        self, write_module: WriteModule, tmp_path: Path, name: str, source: str, answer: str
    ) -> None:
        write_module(source)
        assert load_application(name, app_dir=str(tmp_path))() == answer

    def test_the_directory_comes_first(self, write_module: WriteModule, tmp_path: Path) -> None:
        write_module("app = lambda: 'other'", "other/bridged_app.py")
        write_module("app = lambda: 'mine'", "mine/bridged_app.py")
        sys.path[:0] = [str(tmp_path / "other"), str(tmp_path / "mine")]
        assert load_application("bridged_app:app", app_dir=str(tmp_path / "mine"))() == "mine"

    def test_a_relative_directory_is_searched(
        self, write_module: WriteModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_module(APP, "below/bridged_app.py")
        monkeypatch.chdir(tmp_path)
        assert callable(load_application("bridged_app:app", app_dir="below"))
        assert str(tmp_path / "below") in sys.path  # still right after another chdir

    def test_an_installed_application_is_found(self, tmp_path: Path) -> None:
        assert load_application("json:dumps", app_dir=str(tmp_path))(1) == "1"

    def test_a_factory_is_called(self, write_module: WriteModule, tmp_path: Path) -> None:
        write_module("def make():\n    return lambda: 'made'\n")
        assert load_application("bridged_app:make", app_dir=str(tmp_path), factory=True)() == "made"

    @pytest.mark.parametrize("call", ["()", "( )", " ()"])
    @pytest.mark.parametrize("factory", [False, True])
    def test_a_factory_as_gunicorn_has_it(
        self, write_module: WriteModule, tmp_path: Path, call: str, factory: bool
    ) -> None:
        write_module(
            "class site:\n    @staticmethod\n    def make():\n        return lambda: 'made'\n"
        )
        name = f"bridged_app:site.make{call}"
        assert load_application(name, app_dir=str(tmp_path), factory=factory)() == "made"

    @pytest.mark.parametrize(
        ("call", "arguments"),
        [
            ('("prod", debug=False)', (("prod",), {"debug": False})),
            ("(1, -2.5, None, True)", ((1, -2.5, None, True), {})),
            ("([1, (2,)], {'a': {3}})", (([1, (2,)], {"a": {3}}), {})),
            ("('a:b', '/x.py:c', '()')", (("a:b", "/x.py:c", "()"), {})),
            ("(a = b'x',)", ((), {"a": b"x"})),
        ],
    )
    @pytest.mark.parametrize("factory", [False, True])
    def test_a_factory_gets_literals(
        self,
        write_module: WriteModule,
        tmp_path: Path,
        call: str,
        arguments: object,
        factory: bool,
    ) -> None:
        write_module("def make(*args, **kwargs):\n    return lambda: (args, kwargs)\n")
        app = load_application(f"bridged_app:make{call}", app_dir=str(tmp_path), factory=factory)
        assert app() == arguments

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            ("(1)", "missing a required argument: 'debug'"),
            ("(1, 2, 3)", "too many positional arguments"),
            ("(1, 2, other=3)", "got an unexpected keyword argument 'other'"),
        ],
    )
    def test_arguments_that_do_not_fit_are_told(
        self, write_module: WriteModule, tmp_path: Path, call: str, said: str
    ) -> None:
        write_module("def make(kind, debug):\n    pass\n")
        error = refusal(f"bridged_app:make{call}", tmp_path)
        assert str(error) == f"bridged_app:make can't be called with these arguments: {said}"
        assert error.traceback_text.startswith("TypeError: make() ")

    def test_what_a_factory_makes_of_its_arguments_is_its_own_failure(
        self, write_module: WriteModule, tmp_path: Path
    ) -> None:
        write_module("def make(kind):\n    return kind + 1\n")
        error = refusal("bridged_app:make('prod')", tmp_path)
        assert str(error) == "the factory bridged_app:make failed"
        assert "return kind + 1" in error.traceback_text


class TestTheCallersMistakes:
    @pytest.mark.parametrize(
        ("name", "example"),
        [
            ("", "module:app"),
            (":app", "module:app"),
            ("site/wsgi:application", "site.wsgi:app"),
            ("./site/wsgi", "site.wsgi:app"),
        ],
    )
    def test_another_form_is_refused(self, tmp_path: Path, name: str, example: str) -> None:
        error = refusal(name, tmp_path)
        assert str(error) == (
            f"{name!r} is not of the form module:attribute; write for example {example}"
        )
        assert not error.traceback_text

    @pytest.mark.parametrize("name", ["no_such_module", "no_such_module.wsgi"])
    def test_a_missing_module_is_named(self, tmp_path: Path, name: str) -> None:
        error = refusal(f"{name}:app", tmp_path)
        assert str(error) == (
            f"there is no module 'no_such_module' in {tmp_path} or on the import path; "
            "--app-dir names the directory to import from"
        )
        assert not error.traceback_text

    def test_a_missing_module_of_a_package_is_named(
        self, write_module: WriteModule, tmp_path: Path
    ) -> None:
        write_module("", "bridged_site/__init__.py")
        error = refusal("bridged_site.wsgi:app", tmp_path)
        assert "there is no module 'bridged_site.wsgi'" in str(error)
        assert not error.traceback_text

    def test_a_module_is_no_package(self, write_module: WriteModule, tmp_path: Path) -> None:
        write_module(APP)
        error = refusal("bridged_app.wsgi:app", tmp_path)
        assert "there is no module 'bridged_app.wsgi'" in str(error)

    @pytest.mark.parametrize(
        ("attribute", "hint"),
        [
            ("aplication", "; did you mean 'application'?"),
            ("APPLICATION_ROOT_FACTORY", ""),
            ("application.nothing_there", ""),
        ],
    )
    def test_a_missing_attribute_is_named(
        self, write_module: WriteModule, tmp_path: Path, attribute: str, hint: str
    ) -> None:
        write_module("application = print")
        error = refusal(f"bridged_app:{attribute}", tmp_path)
        missing = attribute.rpartition(".")[2]
        assert str(error) == f"bridged_app has no attribute {missing!r}{hint}"
        assert not error.traceback_text

    def test_missing_usual_attributes_are_named(
        self, write_module: WriteModule, tmp_path: Path
    ) -> None:
        write_module("wsgi = print")
        assert str(refusal("bridged_app", tmp_path)) == (
            "bridged_app has no attribute 'application' or 'app'; "
            "name the one to serve: bridged_app:NAME"
        )

    @pytest.mark.parametrize("value", ["'text'", "None", "{}"])
    def test_a_value_that_cannot_be_called_is_refused(
        self, write_module: WriteModule, tmp_path: Path, value: str
    ) -> None:
        write_module(f"app = {value}")
        error = refusal("bridged_app:app", tmp_path)
        kind = {"'text'": "str", "None": "NoneType", "{}": "dict"}[value]
        assert str(error) == f"bridged_app:app is of type {kind}, which can't be called"
        assert "(--factory)" in str(refusal("bridged_app:app", tmp_path, factory=True))

    def test_a_factory_that_gives_no_application(
        self, write_module: WriteModule, tmp_path: Path
    ) -> None:
        write_module("def make():\n    pass\n")
        error = refusal("bridged_app:make", tmp_path, factory=True)
        assert str(error) == "bridged_app:make is of type NoneType, which can't be called"

    @pytest.mark.parametrize(
        "call",
        [
            "make(production)", "make(debug=site.debug)", "make(site.app)()", "make(", "make().app", "make(*[1])",
            "make(**{'a': 1})", "make(open('x'))", "make(1 + 1)", "make(f'{1}')", "make(a=1, a=2)", "make(1)(2)",
            "make(1) or 2", "make(1), 2", "make(" + "(" * 3000, "make(" + "-" * 100_000 + "1)",
        ],
        ids=lambda it: repr(it)[:20],
    )  # fmt: skip
    def test_what_is_no_call_with_literals_is_refused(
        self, write_module: WriteModule, tmp_path: Path, call: str
    ) -> None:
        write_module("def make(*_, **__):\n    return print\n")
        error = refusal(f"bridged_app:{call}", tmp_path)
        name = f"bridged_app:{call}"
        assert str(error) == (
            f"{name!r} is more than the call of a factory with literals, such as 'prod', 5, None or [1, 2]; write a "
            "function without arguments that makes this call, and name it with --factory"
        )
        assert not error.traceback_text

    def test_an_async_factory_is_refused(self, write_module: WriteModule, tmp_path: Path) -> None:
        """And no warning that it was never awaited, which would fail this test."""
        write_module("async def make():\n    return print\n")
        error = refusal("bridged_app:make", tmp_path, factory=True)
        assert str(error) == (
            "the factory bridged_app:make is an async function; it must be a plain one"
        )

    def test_a_hook_is_named_without_parentheses(
        self, write_module: WriteModule, tmp_path: Path
    ) -> None:
        write_module("def fork():\n    raise AssertionError('called while it is looked for')\n")
        with pytest.raises(ApplicationError, match=r"'fork\(\)'; did you mean 'fork'\?"):
            load_hook("bridged_app:fork()", app_dir=str(tmp_path))


class TestTheApplicationsMistakes:
    """They come with the application's own traceback, and with no frame of ours."""

    def check(self, error: ApplicationError, *, file: Path, ends_with: str) -> None:
        lines = error.traceback_text.splitlines()
        assert lines[-1].startswith(ends_with)
        files = [line for line in lines if line.startswith("  File ")]
        assert str(file) in files[0]
        assert "uwsgibridge" not in error.traceback_text.replace(str(file.parent), "")
        assert "importlib" not in error.traceback_text

    @pytest.mark.parametrize(
        ("source", "ends_with"),
        [
            ("1 / 0", "ZeroDivisionError: division by zero"),
            ("import no_such_dependency", "ModuleNotFoundError: No module named 'no_such_dep"),
            ("from json import no_such_name", "ImportError: cannot import name 'no_such_name'"),
            ("def broken(:", "SyntaxError: "),
            ("raise SystemExit('settings missing')", "SystemExit: settings missing"),
        ],
    )
    def test_the_import_fails(
        self, write_module: WriteModule, tmp_path: Path, source: str, ends_with: str
    ) -> None:
        file = write_module(f"\n{source}\n")
        error = refusal("bridged_app:app", tmp_path)
        is_missing = ends_with.startswith("ModuleNotFoundError")
        hint = ": no_such_dependency is not installed in " if is_missing else ""
        assert str(error).partition(sys.prefix)[0] == f"importing bridged_app failed{hint}"
        self.check(error, file=file, ends_with=ends_with)
        assert source in error.traceback_text

    def test_script_that_ends(self, write_module: WriteModule, tmp_path: Path) -> None:
        file = write_module("\nraise SystemExit(0)\n")
        error = refusal("bridged_app:app", tmp_path)
        assert str(error) == (
            "importing bridged_app failed: it calls sys.exit(); what a script does belongs under "
            'if __name__ == "__main__":'
        )
        self.check(error, file=file, ends_with="SystemExit: 0")

    def test_the_loop_is_needed_too_early(self, write_module: WriteModule, tmp_path: Path) -> None:
        file = write_module("\nimport asyncio\nasyncio.get_running_loop()\n")
        error = refusal("bridged_app:app", tmp_path)
        assert str(error) == (
            "importing bridged_app failed: its event loop does not run yet; what needs the loop belongs into the "
            "lifespan's startup"
        )
        self.check(error, file=file, ends_with="RuntimeError: no running event loop")

    @pytest.mark.parametrize("loop", ["auto", "trio"])
    def test_the_loop_will_never_run(
        self, write_module: WriteModule, tmp_path: Path, loop: Literal["auto", "trio"]
    ) -> None:
        write_module("\nimport asyncio\nasyncio.get_running_loop()\n")
        settings = Settings(app_dir=str(tmp_path), loop=loop)
        with pytest.raises(ApplicationError) as caught:
            load_applications("bridged_app:app", settings)
        assert ("leave out --loop trio" in str(caught.value)) == (loop == "trio")
        assert "no running event loop" in caught.value.traceback_text

    def test_a_factory_needs_the_loop_too_early(
        self, write_module: WriteModule, tmp_path: Path
    ) -> None:
        write_module("import asyncio\ndef make():\n    asyncio.get_running_loop()\n")
        error = refusal("bridged_app:make()", tmp_path)
        assert str(error).endswith(
            ": its event loop does not run yet; what needs the loop belongs into the lifespan's startup"
        )

    def test_what_it_imports_fails(self, write_module: WriteModule, tmp_path: Path) -> None:
        write_module("", "bridged_site/__init__.py")
        write_module("import bridged_site.no_such_part", "bridged_site/urls.py")
        file = write_module("import bridged_site.urls", "bridged_site/wsgi.py")
        error = refusal("bridged_site.wsgi:app", tmp_path)
        assert str(error) == "importing bridged_site.wsgi failed"
        lines = error.traceback_text.splitlines()
        assert str(file) in next(line for line in lines if line.startswith("  File "))
        assert lines[-1] == "ModuleNotFoundError: No module named 'bridged_site.no_such_part'"

    @pytest.mark.parametrize(
        ("failure", "ends_with"),
        [
            ("raise RuntimeError('no database')", "RuntimeError: no database"),
            ("import no_such_dependency", "ModuleNotFoundError: No module named"),
            ("raise SystemExit('settings missing')", "SystemExit: settings missing"),
        ],
    )
    def test_the_factory_fails(
        self, write_module: WriteModule, tmp_path: Path, failure: str, ends_with: str
    ) -> None:
        file = write_module(f"def make():\n    {failure}\n")
        error = refusal("bridged_app:make", tmp_path, factory=True)
        assert str(error) == "the factory bridged_app:make failed"
        self.check(error, file=file, ends_with=ends_with)

    def test_a_factory_that_wants_arguments(
        self, write_module: WriteModule, tmp_path: Path
    ) -> None:
        write_module("def make(configuration):\n    pass\n")
        error = refusal("bridged_app:make", tmp_path, factory=True)
        assert error.traceback_text == (
            "TypeError: make() missing 1 required positional argument: 'configuration'"
        )
        assert str(error).startswith("bridged_app:make needs arguments, so it is no factory: ")

    def test_a_wrong_call_in_a_factory_shows_its_traceback(
        self, write_module: WriteModule, tmp_path: Path
    ) -> None:
        file = write_module("def make():\n    return len()\n")
        error = refusal("bridged_app:make", tmp_path, factory=True)
        assert str(error) == "the factory bridged_app:make failed"
        self.check(
            error, file=file, ends_with="TypeError: len() takes exactly one argument (0 given)"
        )

    def test_an_attribute_that_fails_shows_its_traceback(
        self, write_module: WriteModule, tmp_path: Path
    ) -> None:
        """Modules and objects may compute attributes (PEP 562)."""
        file = write_module("def __getattr__(name):\n    raise RuntimeError('not configured')\n")
        error = refusal("bridged_app:app", tmp_path)
        self.check(error, file=file, ends_with="RuntimeError: not configured")

    def test_causes_are_shown(self, write_module: WriteModule, tmp_path: Path) -> None:
        write_module(
            "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n"
            "    raise RuntimeError('wrapped') from error\n"
        )
        text = refusal("bridged_app:app", tmp_path).traceback_text
        assert text.index("ZeroDivisionError: division by zero") < text.index("direct cause of")
        assert text.endswith("RuntimeError: wrapped")


GREEN_LIBRARIES = {
    "gevent": ("gevent.monkey", "is_module_patched", "threading", "subprocess=False, queue=False)"),
    "eventlet": ("eventlet.patcher", "is_monkey_patched", "thread", "(thread=False, select=False)"),
}


class TestPatchedModules:
    """Green threads in the place of those that serve; the libraries themselves are not needed."""

    @pytest.fixture(params=sorted(GREEN_LIBRARIES))
    def library(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
        module, function, *_ = GREEN_LIBRARIES[request.param]
        made = types.ModuleType(module)
        patched: set[str] = set()
        setattr(made, function, patched.__contains__)
        made.patch = patched.update  # type: ignore[attr-defined] # by the application below
        monkeypatch.setitem(sys.modules, module, made)
        return str(request.param)

    def source(self, library: str, *modules: str) -> str:
        return f"import sys\nsys.modules[{GREEN_LIBRARIES[library][0]!r}].patch({modules!r})\n"

    @pytest.mark.parametrize("which", ["threads", "select", "both"])
    def test_patched_threads_are_refused(
        self, write_module: WriteModule, tmp_path: Path, library: str, which: str
    ) -> None:
        *_, threads, remedy = GREEN_LIBRARIES[library]
        modules = {"threads": (threads,), "select": ("select",), "both": (threads, "select")}[which]
        write_module(self.source(library, "socket", *modules) + APP)
        error = refusal("bridged_app:app", tmp_path)
        assert f"{library} replace {' and '.join(modules)} " in str(error)
        assert remedy in str(error)
        assert 'async_mode="threading"' in str(error)
        assert error.traceback_text == ""

    def test_patched_threads_are_refused_in_a_factory(
        self, write_module: WriteModule, tmp_path: Path, library: str
    ) -> None:
        patch = self.source(library, "select").replace("\n", "\n    ")
        write_module(f"def make():\n    {patch}return lambda: None\n")
        error = refusal("bridged_app:make", tmp_path, factory=True)
        assert f"bridged_app:make has {library} replace select" in str(error)

    def test_is_told_before_what_else_is_wrong(
        self, write_module: WriteModule, tmp_path: Path, library: str
    ) -> None:
        write_module(self.source(library, "select"))
        assert f"{library} replace select" in str(refusal("bridged_app:app", tmp_path))

    @pytest.mark.parametrize("modules", [(), ("socket", "time", "queue", "os")])
    def test_other_modules_are_the_applications_affair(
        self, write_module: WriteModule, tmp_path: Path, library: str, modules: tuple[str, ...]
    ) -> None:
        write_module(self.source(library, *modules) + APP)
        assert callable(load_application("bridged_app:app", app_dir=str(tmp_path)))

    def test_library_of_another_version_is_not_asked(
        self, write_module: WriteModule, tmp_path: Path, library: str
    ) -> None:
        module, function, *_ = GREEN_LIBRARIES[library]
        delattr(sys.modules[module], function)
        write_module(APP)
        assert callable(load_application("bridged_app:app", app_dir=str(tmp_path)))
