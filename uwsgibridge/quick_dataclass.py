"""Data classes that are quick to import: the decorator of the standard library, without what it compiles.

`dataclasses.dataclass` writes up to seven functions for each class as text, and compiles them at each import. That takes
0.5 to 1.1 milliseconds for a class (CPython 3.11 and 3.13), and was a fifth of what a start imports. The functions here
are compiled already, and look up the fields of their class. Making an instance takes some microseconds in return, so
what is made for each request uses the standard library.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError
from typing import Any, Final, NoReturn, TypeVar, cast, dataclass_transform

_T = TypeVar("_T")

# Types that say that something is no ordinary field.
_NOT_OF_FIELDS: Final = ("ClassVar", "InitVar", "KW_ONLY")


@dataclass_transform(field_specifiers=(dataclasses.field,))
def dataclass(
    *, frozen: bool = False, slots: bool = False, kw_only: bool = False, eq: bool = True
) -> Callable[[type[_T]], type[_T]]:
    """Decorate a class as `dataclasses.dataclass` does; `dataclasses.replace`, `fields` and their like know it.

    Args:
        frozen: whether fields can be set in the construction alone.
        slots: whether the class has a slot for each field.
        kw_only: whether all parameters of the construction are keyword-only.
        eq: whether instances are equal where their fields are; if they are frozen too, they have a hash.
    """

    def decorate(cls: type[_T]) -> type[_T]:
        if not cls.__doc__:
            cls.__doc__ = cls.__name__  # else the standard library makes one of the signature
        annotations = cls.__annotations__
        cls.__annotations__ = {name: _quick_type(it) for name, it in annotations.items()}
        slotted = dataclasses.dataclass(
            init=False, repr=False, eq=False, slots=slots, kw_only=kw_only
        )(cls)
        slotted.__annotations__ = annotations
        for field in dataclasses.fields(cast("Any", slotted)):
            field.type = annotations.get(field.name, field.type)
        functions: dict[str, object] = {
            "__init__": _make_init(slotted),
            "__repr__": _repr,
            "__signature__": _SignatureOnDemand(),
        }
        if eq:
            functions |= {"__eq__": _eq, "__hash__": _hash if frozen else None}
        if frozen:
            functions |= {
                "__setattr__": _refuse_to_set,
                "__delattr__": _refuse_to_delete,
                # Copies and pickles would set the fields by `setattr`.
                "__getstate__": _state,
                "__setstate__": _set_state,
            }
        for name, function in functions.items():
            if name not in cls.__dict__:
                setattr(slotted, name, function)
        return slotted

    return decorate


def _quick_type(annotation: Any) -> Any:
    """Give `object` for a type that the standard library would only look at: a text, by regular expressions, three times."""
    return annotation if any(it in str(annotation) for it in _NOT_OF_FIELDS) else object


def _make_init(cls: Any) -> Callable[..., None]:
    fields = dataclasses.fields(cls)
    positional = [it.name for it in fields if not it.kw_only]
    after = getattr(cls, "__post_init__", None)
    name = f"{cls.__qualname__}.__init__()"

    def __init__(self: Any, *args: Any, **values: Any) -> None:  # noqa: N807 - as tracebacks show it
        if len(args) > len(positional):
            raise TypeError(f"{name} takes {len(positional)} positional arguments, not {len(args)}")
        for parameter, value in zip(positional, args, strict=False):
            if parameter in values:
                raise TypeError(f"{name} got multiple values for argument {parameter!r}")
            values[parameter] = value
        for field in fields:
            if field.name in values:
                value = values.pop(field.name)
            elif field.default is not MISSING:
                value = field.default
            elif field.default_factory is not MISSING:
                value = field.default_factory()
            else:
                raise TypeError(f"{name} misses the argument {field.name!r}")
            object.__setattr__(self, field.name, value)  # which a frozen instance has as well
        if values:
            raise TypeError(f"{name} got an unexpected keyword argument {min(values)!r}")
        if after is not None:
            after(self)

    return __init__


class _SignatureOnDemand:
    """What `inspect.signature`, and so `help`, shows for a class."""

    def __get__(self, instance: object, cls: Any) -> inspect.Signature:
        parameters = []
        for it in dataclasses.fields(cls):
            default = it.default
            if it.default_factory is not MISSING:
                default = it.default_factory
            parameters.append(
                inspect.Parameter(
                    it.name,
                    inspect.Parameter.KEYWORD_ONLY
                    if it.kw_only
                    else inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=inspect.Parameter.empty if default is MISSING else default,
                    annotation=it.type,
                )
            )
        parameters.sort(key=lambda it: it.kind)
        return inspect.Signature(parameters, return_annotation=None)


def _compared(instance: Any) -> tuple[Any, ...]:
    return tuple([getattr(instance, it.name) for it in dataclasses.fields(instance) if it.compare])


def _eq(self: object, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return _compared(self) == _compared(other)


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _repr(self: Any) -> str:
    shown = [f"{it.name}={getattr(self, it.name)!r}" for it in dataclasses.fields(self) if it.repr]
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _refuse_to_set(self: object, name: str, value: object) -> NoReturn:  # noqa: ARG001
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> NoReturn:  # noqa: ARG001
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, it.name) for it in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for it, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, it.name, value)
