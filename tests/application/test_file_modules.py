"""A Python file as an application: the module that it becomes, and what a person reads where it can't be loaded."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from uwsgibridge.application import file_modules
from uwsgibridge.application.file_modules import load_file, module_name_of
from uwsgibridge.application.loading import load_application, load_applications, load_hook
from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import ApplicationError

SOURCE = """
class Thing:
    pass

def application(environ, start_response):
    start_response("200 OK", [])
    return [__name__.encode()]

def make(*arguments):
    return lambda environ, start_response: arguments
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory to be in; what is imported is gone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setenv("UWSGIBRIDGE_FILE_MODULES", "{}")
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    modules = set(sys.modules)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "app.py").write_text(SOURCE)
    yield tmp_path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("app.py", "uwsgi_file_app"),
        ("/srv/my-site/app.py", "uwsgi_file__srv_my-site_app"),
        ("./a.b/app.py", "uwsgi_file___a_b_app"),
        ("/srv/site.wsgi", "uwsgi_file__srv_site_wsgi"),
    ],
)
def test_the_name_of_the_module(path: str, name: str) -> None:
    assert module_name_of(path) == name


def test_the_module_is_like_others(place: Path) -> None:
    module = load_file("sub/app.py")
    assert module.__name__ == "uwsgi_file_sub_app"
    assert sys.modules["uwsgi_file_sub_app"] is module
    assert module.__file__ == str(place / "sub" / "app.py")
    assert isinstance(pickle.loads(pickle.dumps(module.Thing())), module.Thing)
    assert load_file("sub/app.py") is module
    assert len(list((place / "sub" / "__pycache__").iterdir())) == 1


@pytest.mark.parametrize("name", ["sub/app.py", "sub/app.py:application", "./sub/app.py:"])
def test_it_is_an_application(place: Path, name: str) -> None:
    app = load_application(name)
    assert app({}, lambda *_: None)[0].startswith(b"uwsgi_file_")
    # As in uWSGI: the directory that is named, and not that of the file.
    assert sys.path[0] == str(place)
    assert str(place / "sub") not in sys.path


def test_a_file_has_factories_and_hooks(place: Path) -> None:
    assert load_application(f"{place}/sub/app.py:make(1)")({}, None) == (1,)
    assert load_application("sub/app.py:make", factory=True)({}, None) == ()
    assert load_hook("sub/app.py:make")() is not None


def test_a_file_is_mounted(place: Path) -> None:
    (place / "other.py").write_text(SOURCE)
    applications = load_applications(
        "sub/app.py", Settings(mount=("/x=other.py:application", "/y=sub/app.py"))
    )
    assert [(it.prefix, it.name) for it in applications] == [
        ("", "sub/app.py"), ("/x", "other.py:application"), ("/y", "sub/app.py"),
    ]  # fmt: skip
    assert applications[0].app is applications[2].app


def test_a_file_with_another_ending_shares_no_bytecode(place: Path) -> None:
    """`site.py` and `site.wsgi` would have the same file of bytecode."""
    (place / "sub" / "app.wsgi").write_text("application = 5\n")
    size = (place / "sub" / "app.py").stat()
    os.utime(place / "sub" / "app.wsgi", ns=(size.st_atime_ns, size.st_mtime_ns))
    assert load_file("sub/app.wsgi").application == 5
    assert not (place / "sub" / "__pycache__").exists()
    assert callable(load_file("sub/app.py").application)


def refusal(name: str) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        load_application(name)
    assert "\n" not in str(caught.value)
    return caught.value


def test_there_is_no_such_file(place: Path) -> None:
    assert str(refusal("missing.py")) == f"there is no file missing.py in {place}"
    (place / "directory.py").mkdir()
    assert str(refusal("directory.py")) == "directory.py: Is a directory"


def test_two_files_of_one_name(place: Path) -> None:
    (place / "sub_app.py").write_text(SOURCE)
    load_application("sub/app.py")
    assert str(refusal("sub_app.py")) == (
        f"sub_app.py gets the name uwsgi_file_sub_app, which {place}/sub/app.py has already: rename one of them"
    )


def test_an_error_in_the_file_is_shown_and_nothing_stays(place: Path) -> None:
    (place / "sub" / "app.py").write_text("\n1 / 0\n")
    error = refusal("sub/app.py")
    assert str(error) == "importing sub/app.py failed"
    lines = error.traceback_text.splitlines()
    assert lines[1].strip() == f'File "{place}/sub/app.py", line 2, in <module>'
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "uwsgi_file_sub_app" not in sys.modules
    (place / "sub" / "app.py").write_text("import sys\nsys.exit()\n")
    assert 'what a script does belongs under if __name__ == "__main__":' in str(
        refusal("sub/app.py")
    )


def test_an_attribute_that_is_not_there() -> None:
    assert str(refusal("sub/app.py:aplication")) == (
        "sub/app.py has no attribute 'aplication'; did you mean 'application'?"
    )


@pytest.mark.parametrize("made", ["helpers.py", "helpers/__init__.py"])
def test_a_module_beside_the_file_is_hinted(place: Path, made: str) -> None:
    (place / "sub" / made).parent.mkdir(exist_ok=True)
    (place / "sub" / made).write_text("")
    (place / "sub" / "app.py").write_text("import helpers\n")
    error = refusal("sub/app.py")
    assert str(error) == (
        "importing sub/app.py failed: helpers lies beside it, and that directory is not on the import path; write "
        "--app-dir sub"
    )
    assert error.traceback_text.endswith("ModuleNotFoundError: No module named 'helpers'")
    # The hint holds.
    (place / "sub" / "app.py").write_text(f"import helpers\n{SOURCE}")
    assert callable(load_application("sub/app.py", app_dir="sub"))


def test_no_module_beside_the_file_is_not_hinted(place: Path) -> None:
    (place / "sub" / "app.py").write_text("import no_such_module_at_all\n")
    said = str(refusal("sub/app.py"))
    assert "no_such_module_at_all is not installed in " in said
    assert "--app-dir" not in said


def test_a_child_finds_the_file_by_the_name_of_its_module(place: Path) -> None:
    load_file("sub/app.py")
    del sys.modules["uwsgi_file_sub_app"]
    with pytest.raises(ModuleNotFoundError):
        __import__("uwsgi_file_sub_app")
    file_modules.find_modules_of_parent()
    __import__("uwsgi_file_sub_app")
    assert sys.modules["uwsgi_file_sub_app"].__file__ == str(place / "sub" / "app.py")


# --import-module


def test_modules_are_imported_after_the_application(place: Path) -> None:
    (place / "sub" / "app.py").write_text(f"import builtins\nbuiltins.order = ['app']\n{SOURCE}")
    (place / "one_more.py").write_text("order.append(__name__)\n")
    load_applications("sub/app.py", Settings(import_module=("one_more", "./one_more.py", "json")))
    import builtins

    assert builtins.order == ["app", "one_more", "uwsgi_file___one_more"]  # type: ignore[attr-defined] # made above
    del builtins.order  # type: ignore[attr-defined] # made above


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module", "there is no module 'no_such_module' in "),
        ("missing.py", "there is no file missing.py in "),
        ("broken", "importing broken failed (--import-module)"),
        ("broken.py", "importing broken.py failed (--import-module)"),
        ("json:loads", "'json:loads' is no module: leave out what stands behind the colon"),
        ("", "'' is not of the form"),
    ],
)
def test_a_module_that_can_not_be_imported_is_told(place: Path, name: str, said: str) -> None:
    (place / "broken.py").write_text("raise ValueError('no')\n")
    with pytest.raises(ApplicationError) as caught:
        load_applications("sub/app.py", Settings(import_module=(name,)))
    assert said in str(caught.value)
    assert str(caught.value).endswith("(--import-module)")
    assert ("ValueError: no" in caught.value.traceback_text) == ("broken" in name)
