"""What is told of a Python that can run without the GIL, on any Python."""

from __future__ import annotations

import platform
import sys

import pytest

from uwsgibridge.system import interpreter

VERSION = platform.python_version()


@pytest.fixture(autouse=True)
def nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHON_GIL", raising=False)


def runs(monkeypatch: pytest.MonkeyPatch, *, is_free_threaded: bool, has_gil: bool) -> None:
    monkeypatch.setattr(interpreter, "is_free_threaded", lambda: is_free_threaded)
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: has_gil, raising=False)


def test_a_usual_python(monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, is_free_threaded=False, has_gil=True)
    assert interpreter.describe_python() == VERSION
    assert not interpreter.runs_without_gil()
    assert not interpreter.gil_was_brought_back()


def test_a_python_before_3_13(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys, "_is_gil_enabled", raising=False)
    assert not interpreter.runs_without_gil()


def test_a_free_threaded_python(monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, is_free_threaded=True, has_gil=False)
    assert interpreter.describe_python() == f"{VERSION} (free-threaded, without the GIL)"
    assert interpreter.runs_without_gil()
    assert not interpreter.gil_was_brought_back()


def test_a_free_threaded_python_with_a_module_that_needs_the_gil(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs(monkeypatch, is_free_threaded=True, has_gil=True)
    assert interpreter.describe_python() == f"{VERSION} (free-threaded, with the GIL)"
    assert interpreter.gil_was_brought_back()


def test_an_operator_who_asks_for_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, is_free_threaded=True, has_gil=True)
    monkeypatch.setenv("PYTHON_GIL", "1")
    assert not interpreter.gil_was_brought_back()
