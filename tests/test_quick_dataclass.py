"""The quick decorator of data classes against the one of the standard library: the same classes by both."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from functools import cached_property
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from uwsgibridge import quick_dataclass


def _classes(decorator: Callable[..., Any]) -> SimpleNamespace:
    """Make the classes of these tests by one of the decorators."""

    @decorator(frozen=True, slots=True)
    class Point:
        """A point."""

        x: int
        y: int = 2
        names: list[str] = dataclasses.field(default_factory=list, compare=False, repr=False)

    @decorator(slots=True, eq=False)
    class Count:
        """A count, which changes."""

        most: ClassVar[int] = 9
        number: int = 0

    @decorator(frozen=True, slots=True, kw_only=True)
    class Checked:
        """Has a rule."""

        size: int
        place: Any = None

        def __post_init__(self) -> None:
            if self.size < 0:
                raise ValueError("size is negative")

    @decorator(slots=True)
    class Shown:
        """Shows itself in its own words."""

        text: str

        def __repr__(self) -> str:
            return f"<{self.text}>"

    @decorator(frozen=True)
    class Open:
        """Has no slots."""

        size: int = 1

        @cached_property
        def double(self) -> int:
            """Twice the size."""
            return 2 * self.size

    return SimpleNamespace(Point=Point, Count=Count, Checked=Checked, Shown=Shown, Open=Open)


QUICK = _classes(quick_dataclass.dataclass)
STANDARD = _classes(dataclasses.dataclass)


# What can be done with them: each gives the same of both, or raises the same kind of exception.
STEPS: dict[str, Callable[[SimpleNamespace], object]] = {
    "positional": lambda it: repr(it.Point(1, 3)),
    "by name": lambda it: repr(it.Point(y=5, x=4)),
    "default": lambda it: (it.Point(1).y, it.Point(1).names),
    "default factory": lambda it: it.Point(1).names is it.Point(1).names,
    "missing": lambda it: it.Point(),
    "too many": lambda it: it.Point(1, 2, [], 4),
    "twice": lambda it: it.Point(1, x=1),
    "unknown": lambda it: it.Point(1, z=1),
    "positional of keyword-only": lambda it: it.Checked(1),
    "after": lambda it: it.Checked(size=-1),
    "equal": lambda it: it.Point(1) == it.Point(1, 2, ["not compared"]),
    "not equal": lambda it: it.Point(1) == it.Point(2),
    "of another class": lambda it: (it.Point(1) == (1, 2), it.Point(1) == it.Checked(size=1)),
    "identity": lambda it: it.Count(1) == it.Count(1),
    "hash": lambda it: hash(it.Point(1)) == hash(it.Point(1, 2, ["not compared"])),
    "hash of what changes": lambda it: hash(it.Shown("a")),
    "hash of identity": lambda it: len({it.Count(), it.Count()}),
    "own repr": lambda it: repr(it.Shown("a")),
    "nested repr": lambda it: repr(it.Checked(size=1, place=it.Point(1))),
    "set": lambda it: setattr(it.Point(1), "x", 2),
    "delete": lambda it: delattr(it.Point(1), "x"),
    "set what changes": lambda it: setattr(it.Count(), "number", 2),
    "no field of slots": lambda it: setattr(it.Count(), "other", 2),
    "slots": lambda it: (it.Point.__slots__, hasattr(it.Point(1), "__dict__")),
    "no slots": lambda it: (it.Open(3).double, it.Open.size, vars(it.Open(4))),
    "match": lambda it: (it.Point.__match_args__, it.Checked.__match_args__),
    "fields": lambda it: [one.name for one in dataclasses.fields(it.Point)],
    "types": lambda it: [one.type for one in dataclasses.fields(it.Checked)],
    "annotations": lambda it: (
        it.Point.__annotations__,
        it.Count.__annotations__,
        it.Open.__annotations__,
    ),
    "no field": lambda it: ([one.name for one in dataclasses.fields(it.Count)], it.Count.most),
    "replace": lambda it: repr(dataclasses.replace(it.Point(1), y=3)),
    "replace checks": lambda it: dataclasses.replace(it.Checked(size=1), size=-1),
    "asdict": lambda it: dataclasses.asdict(it.Checked(size=1, place=it.Point(1, names=["a"]))),
    "astuple": lambda it: dataclasses.astuple(it.Checked(size=1, place=it.Point(1))),
    "copy": lambda it: repr(copy.copy(it.Point(1, 3))),
    "deep copy": lambda it: repr(copy.deepcopy(it.Checked(size=1, place=it.Point(3)))),
    "state": lambda it: pickle.loads(pickle.dumps(it.Point(1, 3).__getstate__())),
    "signature": lambda it: list(inspect.signature(it.Point).parameters.items())[:2],
    "keyword-only signature": lambda it: str(inspect.signature(it.Checked)),
    "doc": lambda it: it.Point.__doc__,
}


def _outcome(step: Callable[[SimpleNamespace], object], classes: SimpleNamespace) -> object:
    try:
        return step(classes)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("name", STEPS)
def test_both_decorators_make_the_same_class(name: str) -> None:
    assert _outcome(STEPS[name], QUICK) == _outcome(STEPS[name], STANDARD)


def test_the_error_names_the_argument() -> None:
    for step, words in {
        "missing": "Point.__init__() misses the argument 'x'",
        "too many": "Point.__init__() takes 3 positional arguments, not 4",
        "twice": "Point.__init__() got multiple values for argument 'x'",
        "unknown": "Point.__init__() got an unexpected keyword argument 'z'",
        "set": "cannot assign to field 'x'",
    }.items():
        with pytest.raises((TypeError, dataclasses.FrozenInstanceError)) as caught:
            STEPS[step](QUICK)
        assert str(caught.value).endswith(words)


def test_no_function_is_compiled_for_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def record(text: str, *places: dict[str, Any]) -> None:
        compiled.append(text)
        exec(text, *places)

    monkeypatch.setattr(dataclasses, "exec", record, raising=False)

    _classes(quick_dataclass.dataclass)
    # From Python 3.13 on, the standard library compiles a function for each class that makes the others.
    assert not [text for text in compiled if "self" in text]

    _classes(dataclasses.dataclass)
    assert [text for text in compiled if "self" in text]
