"""Finds which names of a module have values that come from variables of the environment, by its code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

_READING: Final = frozenset({"get", "pop", "setdefault", "__getitem__"})
# A variable as `os.path.expandvars` and shells have it; its name is in one of two groups.
EXPANDED: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")

# What a name is made of: variables of the environment, and other names.
_Parts = tuple[set[str], set[str]]


def variables_of(tree: ast.Module) -> Mapping[str, tuple[str, ...]]:
    """Give the variables of the environment for each name that the module binds by them.

    A variable that chooses between lines (``if os.environ.get("DEBUG"):``) counts for the names that these bind. What
    other modules read is not seen.
    """
    parts: dict[str, _Parts] = {}
    environments = set(_environments(tree))
    for name, made_of in _bindings(tree.body, [], environments):
        variables, names = parts.setdefault(name, (set(), set()))
        variables |= made_of[0]
        names |= made_of[1]
    found = {name: _reached(name, parts) for name in parts}
    return {name: tuple(sorted(variables)) for name, variables in found.items() if variables}


def _reached(start: str, parts: Mapping[str, _Parts]) -> set[str]:
    variables: set[str] = set()
    seen = {start}
    pending = [start]
    while pending:
        own, names = parts.get(pending.pop(), (set(), set()))
        variables |= own
        pending += names - seen
        seen |= names
    return variables


def _environments(tree: ast.Module) -> Iterator[str]:
    """Yield names that stand for os.environ beside its own, as in ``env = os.environ``."""
    for one in ast.walk(tree):
        if isinstance(one, ast.Assign) and _last_name(one.value) == "environ":
            yield from (it.id for it in one.targets if isinstance(it, ast.Name))
        elif isinstance(one, ast.ImportFrom):
            yield from (it.asname for it in one.names if it.name == "environ" and it.asname)
    yield "environ"


def _bindings(
    body: Iterable[ast.AST], conditions: list[ast.expr], environments: set[str]
) -> Iterator[tuple[str, _Parts]]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name, _parts([statement, *conditions], environments)
            continue
        values = [*conditions, *_expressions(statement)]
        made_of = _parts(values, environments)
        for expression in _expressions(statement):
            for one in ast.walk(expression):
                if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
                    yield one.id, made_of
        yield from _bindings(_inner(statement), values, environments)


def _expressions(statement: ast.AST) -> list[ast.expr]:
    """Give the expressions of a statement, without those of the statements in it."""
    return [it for it in _children(statement) if isinstance(it, ast.expr)]


def _inner(statement: ast.AST) -> list[ast.AST]:
    return [it for it in _children(statement) if not isinstance(it, ast.expr)]


def _children(node: ast.AST) -> list[ast.AST]:
    return list(ast.iter_child_nodes(node))


def _parts(nodes: Iterable[ast.AST], environments: set[str]) -> _Parts:
    variables: set[str] = set()
    names: set[str] = set()
    for node in nodes:
        for one in ast.walk(node):
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load):
                names.add(one.id)
            variables |= set(_variables(one, environments))
    return variables, names


def _variables(node: ast.AST, environments: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Subscript) and _last_name(node.value) in environments:
        yield from _text(node.slice)
    elif isinstance(node, ast.Call) and node.args:
        called = _last_name(node.func)
        if called == "getenv":
            yield from _text(node.args[0])
        elif called == "expandvars":
            for text in _text(node.args[0]):
                yield from (match[1] or match[2] for match in EXPANDED.finditer(text))
        elif (
            isinstance(node.func, ast.Attribute)
            and called in _READING
            and _last_name(node.func.value) in environments
        ):
            yield from _text(node.args[0])


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _text(node: ast.AST) -> list[str]:
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return [str(node.value)] if is_text else []  # type: ignore[attr-defined] # is_text says it
