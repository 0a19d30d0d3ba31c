"""The import path of an application: directories in their order, and the packages of another environment."""

from __future__ import annotations

import importlib
import json
import os
import site
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.other_users import as_nobody
from uwsgibridge.application.import_path import join_virtualenv, put_first
from uwsgibridge.application.loading import load_application
from uwsgibridge.errors import ApplicationError, SettingsError
from uwsgibridge.system.virtualenv import find_virtualenv


@pytest.fixture(autouse=True)
def import_system(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the import path, the modules and the prefix as they were."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    for name in ("prefix", "exec_prefix", "executable"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setenv("VIRTUAL_ENV", "before")
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]


class TestDirectories:
    def test_the_first_one_given_comes_first_and_app_dir_last(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("one", "two", "three"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "which.py").write_text(f"app = lambda: {name!r}\n")
        before = sys.path.copy()
        app = load_application("which:app", app_dir="three", python_path=("two", "one"))
        assert app() == "two"
        wanted = [str(tmp_path / it) for it in ("two", "one", "three")]
        assert sys.path == [*wanted, *before]
        put_first("three", ("two", "one"))
        assert sys.path == [*wanted, *before]

    def test_one_that_is_missing_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(ApplicationError) as caught:
            load_application("json:loads", app_dir=str(tmp_path), python_path=("missing",))
        assert str(caught.value) == (
            f"--python-path missing: there is no directory {Path('missing').resolve()}"
        )

    @pytest.mark.parametrize("name", ["a" * 300, "closed/within"])
    def test_one_that_can_t_be_looked_for_is_told(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "closed").mkdir(mode=0)
        wanted = str(tmp_path / name)
        for arguments in ({"app_dir": wanted}, {"app_dir": "", "python_path": (wanted,)}):
            # From Python 3.14 on, exists() is false for what can't be looked for.
            with as_nobody(), pytest.raises(ApplicationError, match=f"^--.* {wanted}: "):
                load_application("json:loads", **arguments)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with packages: its own, one that hides one of ours, and one of the standard library's names."""
    made = tmp_path_factory.mktemp("environments") / "env"
    venv.create(made, symlinks=True)
    [packages] = (made / "lib").glob("python*/site-packages")
    editable = made / "editable"
    editable.mkdir()
    (editable / "in_editable.py").write_text("")
    (packages / "editable.pth").write_text(f"{editable}\n")
    (packages / "runs.pth").write_text("import os; os.environ['IN_PTH'] = 'run'\n")
    for name in ("in_environment", "wsproto", "decimal"):
        (packages / name).mkdir()
        (packages / name / "__init__.py").write_text(f"WHERE = {str(made)!r}\n")
    return made


class TestVirtualEnvironment:
    def test_its_packages_come_before_ours_and_after_the_standard_library(
        self, environment: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("IN_PTH", "")
        for name in ("wsproto", "decimal"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        join_virtualenv(str(environment))
        for name in ("in_environment", "wsproto"):
            assert str(environment) == importlib.import_module(name).WHERE
        assert importlib.import_module("in_editable")
        assert os.environ["IN_PTH"] == "run"
        assert not hasattr(importlib.import_module("decimal"), "WHERE")
        own = next(it for it in site.getsitepackages() if it in sys.path)
        [packages] = (environment / "lib").glob("python*/site-packages")
        assert sys.path.index(str(packages)) < sys.path.index(own)
        assert sys.path.index(str(packages)) > sys.path.index(str(Path(os.__file__).parent))
        # Ours are still there.
        assert importlib.import_module("hypothesis")

    def test_tools_find_their_files_there(self, environment: Path) -> None:
        join_virtualenv(str(environment))
        assert sys.prefix == sys.exec_prefix == os.environ["VIRTUAL_ENV"] == str(environment)
        told = subprocess.run(
            [sys.executable, "-c", "import in_environment as it, json; print(json.dumps(it.WHERE))"],
            capture_output=True, text=True, check=True, timeout=30,
        ).stdout  # fmt: skip
        assert json.loads(told) == str(environment)

    def test_twice_is_once(self, environment: Path) -> None:
        join_virtualenv(str(environment))
        once = sys.path.copy()
        join_virtualenv(str(environment))
        assert sys.path == once

    @pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="this is no virtual environment")
    def test_the_own_one_changes_nothing(self) -> None:
        before = sys.path.copy()
        join_virtualenv(sys.prefix)
        assert sys.path == before
        assert os.environ["VIRTUAL_ENV"] == "before"

    def test_an_interpreter_that_is_gone_is_left_out(
        self, environment: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "env"
        (copy / "lib").mkdir(parents=True)
        (copy / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}").symlink_to(
            next((environment / "lib").iterdir())
        )
        (copy / "pyvenv.cfg").write_text("home = /gone\n")
        (copy / "bin").mkdir()
        (copy / "bin" / "python").symlink_to("/gone/python")
        assert find_virtualenv(str(copy)).python is None


OURS = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            "home = /usr/bin\nversion = 3.9.18\n",
            f"it is one of Python 3.9, and this is Python {OURS}; install uwsgibridge in that environment, and start it there",
        ),
        (
            "version_info = 3.10.1.final.0\nversion = 3.10.1\n",
            "it is one of Python 3.10, and this is",
        ),
        ("home = /usr/bin\n", "it has no packages for this Python ("),
        (f"version = {OURS}.1\n", "install uwsgibridge in that environment, and start it there"),
        ("VERSION=2.7\n", "it is one of Python 2.7"),
        ("version = none\n", "it has no packages for this Python ("),
        ("\xff", "pyvenv.cfg is not UTF-8"),
        (None, "it is no virtual environment; name a directory that python -m venv has made"),
        ("missing", "it is no directory; name a directory that python -m venv has made"),
    ],
    ids=repr,
)
def test_what_is_no_environment_of_this_python(
    tmp_path: Path, config: str | None, said: str
) -> None:
    place = tmp_path / "env"
    if config != "missing":
        place.mkdir()
        if config is not None:
            (place / "pyvenv.cfg").write_text(config, "latin-1")
    with pytest.raises(SettingsError) as caught:
        find_virtualenv(str(place))
    assert str(caught.value).startswith(f"--virtualenv {place}: ")
    assert said in str(caught.value)
